"""The step between the networks: a head's outputs to the bytes of a message, and these to a tail's inputs.

A message holds symbols, one by one in the feature's shape, however the head has packed them: the codec packs or codes
them as it can do best, with their neighbours in view. Floats go as they are. So either side may be the one without
uint8, and neither has to know.
"""

import functools
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from jetson.errors import InputError
from jetson.wire.byte_layout import element_count
from jetson.wire.message import decode_message, encode_message
from jetson.wire.packing import PACKABLE_BITS, pack_bits, packed_dtype, packed_shape, tail_shape, unpack_bits
from jetson.wire.specification import TensorSpecification
from jetson.wire.symbol_model import SymbolModel

KINDS = ("affine", "float16", "float32")


class FeatureTensor(NamedTuple):
    """What must be known of one tensor that crosses to carry it; what its symbols stand for, only the graphs know.

    `name`: in the whole graph; `shape`: of the feature, without the batch dimension. `kind`: "affine" (symbols of
    `bits` bits, 1 to 8, packed in head and tail as `packing` says), "float16" or "float32", which use neither.
    `codec`: of jetson.wire.CODEC_NAMES; `model`: the tables of an entropy codec.
    """

    name: str
    shape: Tuple[int, ...]
    kind: str = "affine"
    bits: int = 8
    packing: str = "none"
    codec: str = "raw"
    model: Optional[SymbolModel] = None

    @property
    def dtype(self) -> str:
        """NumPy's name for the dtype that leaves the head and that the tail takes."""
        return packed_dtype(self.packing) if self.kind == "affine" else self.kind

    @property
    def head_shape(self) -> Tuple[int, ...]:
        """Shape of what leaves the head, without the batch dimension."""
        return packed_shape(self.shape, self.bits, self.packing) if self.kind == "affine" else self.shape

    @property
    def tail_shape(self) -> Tuple[int, ...]:
        """Shape of what the tail takes, without the batch dimension."""
        return tail_shape(self.shape, self.bits, self.packing) if self.kind == "affine" else self.shape

    def specification(self, batch: int) -> TensorSpecification:
        """Return what a message of `batch` samples holds of this tensor."""
        if self.kind != "affine":
            return TensorSpecification(self.kind, (batch,) + self.shape, self.codec, model=self.model)
        return TensorSpecification("uint8", (batch,) + self.shape, self.codec, self.bits, self.model)


class FeatureCodec(NamedTuple):
    """All tensors that cross at one cut, in the graphs' order, as one message of `batch` samples carries them.

    `associated_data`: what sender and receiver have to agree on beside the tensors, such as the hashes of head and
    tail: a message of others is refused. jetson.runtime.bundle_manifest makes one from a bundle.
    """

    tensors: Tuple[FeatureTensor, ...]
    associated_data: bytes = b""
    batch: int = 1

    @property
    def specifications(self) -> Tuple[TensorSpecification, ...]:
        """What a message holds, tensor by tensor."""
        return _specifications(self.tensors, self.batch)

    def symbols(self, head_outputs: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Return what goes into messages: N x shape for each tensor, uint8, or its floats, for any number N of samples.

        `head_outputs`: all outputs of the head, N x `head_shape` of `dtype` each; exits, behind those that cross, are
        left alone. Raises CoopexportError when there are too few, or one has another dtype or shape.
        """
        if len(head_outputs) < len(self.tensors):
            raise InputError(
                "the head gave {} outputs, and {} tensors cross: run the head of the same bundle".format(
                    len(head_outputs), len(self.tensors)
                )
            )
        return [symbols_of(tensor, head_outputs[index]) for index, tensor in enumerate(self.tensors)]

    def tail_inputs(self, symbols: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Return what the tail takes, N x `tail_shape` of `dtype` for each tensor.

        `symbols`: as `symbols` returns them. Raises CoopexportError for another number, dtype or shape.
        """
        if len(symbols) != len(self.tensors):
            raise InputError(
                "symbols of {} tensors were given, and {} cross: give those of all, in the graphs' order".format(
                    len(symbols), len(self.tensors)
                )
            )
        return [tail_input_of(tensor, symbols[index]) for index, tensor in enumerate(self.tensors)]

    def encode(self, head_outputs: Sequence[np.ndarray]) -> bytes:
        """Return the message of what left the head for `batch` samples: what goes over the link.

        Raises CoopexportError as `symbols` does, and for another number of samples.
        """
        symbols = self.symbols(head_outputs)
        for one in symbols:
            if len(one) != self.batch:
                raise InputError(
                    "the head's outputs are of {} samples, a message of this codec holds {}: make the codec for a "
                    "batch of {}".format(len(one), self.batch, len(one))
                )
        return encode_message(symbols, self.specifications, self.associated_data)

    def decode(self, message: bytes) -> List[np.ndarray]:
        """Return what the tail takes, out of a message of `encode`; the arrays own their memory.

        Raises CoopexportError when the message is damaged, of another version, or of another cut or batch.
        """
        return self.tail_inputs(decode_message(message, self.specifications, self.associated_data))


@functools.lru_cache(maxsize=512)
def _specifications(tensors: Tuple[FeatureTensor, ...], batch: int) -> Tuple[TensorSpecification, ...]:
    """Return the same objects again, which jetson.wire.specification.message_format_of then finds fastest in its own
    cache.
    """
    return tuple(tensor.specification(batch) for tensor in tensors)


def symbols_of(tensor: FeatureTensor, head_output: np.ndarray) -> np.ndarray:
    """Return the symbols (N x shape, uint8) in what left the head for one tensor, or its floats as they are.

    Raises CoopexportError when it has another dtype or shape, or holds what is not a symbol of this many bits.
    """
    _check_array(tensor, "leaves the head as", head_output, tensor.dtype, tensor.head_shape)
    if tensor.kind != "affine" or tensor.packing == "none":
        return head_output
    symbols = unpack_bits(head_output, tensor.bits, tensor.packing, element_count(tensor.shape))
    if tensor.packing == "integers":
        # A cast to uint8 would make a symbol of anything.
        least, largest = int(symbols.min()), int(symbols.max())
        if least < 0 or largest >> tensor.bits:
            raise InputError(
                "tensor '{}' holds {}, which is not a symbol of {} bits: run the head of the same bundle".format(
                    tensor.name, least if least < 0 else largest, tensor.bits
                )
            )
    return symbols.astype(np.uint8, copy=False).reshape((len(head_output),) + tensor.shape)


def tail_input_of(tensor: FeatureTensor, symbols: np.ndarray) -> np.ndarray:
    """Return what the tail takes for the symbols (N x shape, uint8) of one tensor, or for its floats.

    Raises CoopexportError when they have another dtype or shape.
    """
    dtype = "uint8" if tensor.kind == "affine" else tensor.kind
    _check_array(tensor, "is given as", symbols, dtype, tensor.shape)
    if tensor.kind != "affine":
        return symbols
    return pack_bits(symbols, tensor.bits, "integers" if tensor.packing == "words" else tensor.packing)


def without_uint8(tensor: FeatureTensor) -> FeatureTensor:
    """Return the tensor in the form that head and tail have where TensorRT has no uint8 (8.2, 8.4); same messages."""
    if tensor.dtype != "uint8":
        return tensor
    return tensor._replace(packing="words" if tensor.bits in PACKABLE_BITS else "integers")


def _check_array(tensor: FeatureTensor, how: str, array: np.ndarray, dtype: str, shape: Tuple[int, ...]) -> None:
    """Raise InputError unless `array` is of `dtype`, in any byte order, and N x `shape`, N at least 1."""
    # Not dtype.name, which takes longer than the rest of the step.
    if array.ndim and len(array) and array.shape[1:] == shape and array.dtype.newbyteorder("=") == dtype:
        return
    raise InputError(
        "tensor '{}' {} {} of shape {}, and must be {} of shape ({}): head, tail and manifest must be of the same "
        "bundle".format(
            tensor.name, how, array.dtype.name, array.shape, dtype, ", ".join(["N"] + [str(size) for size in shape])
        )
    )
