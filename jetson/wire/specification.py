"""What both sides of a cut agree on: the tensors that cross, how each is coded, and the fingerprint of it all."""

import functools
import hashlib
import json
import zlib
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from jetson.errors import InputError
from jetson.wire.byte_layout import element_count
from jetson.wire.symbol_model import MAXIMUM_BITS, SymbolModel

CODEC_NAMES = ("raw", "zlib-huffman", "rans", "rans-context")
DTYPES = ("uint8", "float32", "float16", "int32")
MAXIMUM_TENSORS = 16
MAXIMUM_DIMENSIONS = 8
FINGERPRINT_BYTES = 1
_RANS_CODECS = ("rans", "rans-context")
_FORMAT_PREFIX = b"coopexport.wire/4\0"


class TensorSpecification(NamedTuple):
    """What one tensor of a message is, and how it is coded.

    `dtype`: one of DTYPES. `shape`: with the batch dimension. `codec`: one of CODEC_NAMES. `bits`: of a
    symbol, 1 to 8, for uint8; every symbol is below 2^bits, and the array holds one to an element. `model`:
    for "rans" (of order 0) and "rans-context".
    """

    dtype: str
    shape: Tuple[int, ...]
    codec: str = "raw"
    bits: int = 8
    model: Optional[SymbolModel] = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the decoded tensor."""
        return self.element_count * int(np.dtype(self.dtype).itemsize)

    @property
    def element_count(self) -> int:
        """Elements of the decoded tensor."""
        return element_count(self.shape)


class MessageFormat(NamedTuple):
    """Checked specifications; `fingerprint`: the bytes that stand for them on the wire; `seed`: of the CRC-32."""

    specifications: Tuple[TensorSpecification, ...]
    fingerprint: bytes
    seed: int


def message_format_of(specifications: Sequence[TensorSpecification], associated_data: bytes) -> MessageFormat:
    """Return what both sides derive from the same specifications and further bytes `associated_data`.

    Its digest is the SHA-256 of "coopexport.wire/4", a zero byte, the specifications as JSON without blanks
    (lists of dtype, shape, codec, bits, the model's fingerprint in hexadecimal or null), a zero byte and
    `associated_data`. The fingerprint is its first byte, the seed the CRC-32 of all of it.
    Raises CoopexportError for specifications that the format cannot carry.
    """
    fixed = tuple(
        specification
        if isinstance(specification.shape, tuple)
        else specification._replace(shape=tuple(specification.shape))  # a list, as JSON gives it
        for specification in specifications
    )
    return _message_format_of(fixed, bytes(associated_data))


@functools.lru_cache(maxsize=512)
def _message_format_of(specifications: Tuple[TensorSpecification, ...], associated_data: bytes) -> MessageFormat:
    if not 1 <= len(specifications) <= MAXIMUM_TENSORS:
        raise InputError("a message holds 1 to {} tensors, not {}".format(MAXIMUM_TENSORS, len(specifications)))
    rows = []
    for index, specification in enumerate(specifications):
        _check(index, specification)
        dtype, shape, codec, bits, model = specification
        shape = tuple(int(dimension) for dimension in shape)
        rows.append([dtype, shape, codec, int(bits), model.fingerprint.hex() if model else None])
    described = json.dumps(rows, separators=(",", ":"), sort_keys=True).encode("ascii")
    digest = hashlib.sha256(_FORMAT_PREFIX + described + b"\0" + associated_data).digest()
    return MessageFormat(specifications, digest[:FINGERPRINT_BYTES], zlib.crc32(digest))


def _check(index: int, specification: TensorSpecification) -> None:
    """Raise InputError when the format cannot carry tensor `index` as specified."""
    dtype, shape, codec, bits, model = specification
    if dtype not in DTYPES or len(shape) > MAXIMUM_DIMENSIONS:
        raise _unfit(
            index,
            "{} with {} dimensions; a message takes {} with at most {}".format(
                dtype, len(shape), ", ".join(DTYPES), MAXIMUM_DIMENSIONS
            ),
        )
    if any(int(dimension) != dimension or dimension < 0 for dimension in shape):
        raise _unfit(index, "of shape {}; dimensions are whole numbers, not negative".format(shape))
    if codec not in CODEC_NAMES:
        raise InputError("codec {!r} is unknown".format(codec), fix="use one of {}".format(", ".join(CODEC_NAMES)))
    if bits not in range(1, MAXIMUM_BITS + 1) or (dtype != "uint8" and bits != 8):
        raise _unfit(index, "{} with {} bits; uint8 holds symbols of 1 to 8 bits, others say 8".format(dtype, bits))
    if codec not in _RANS_CODECS:
        if model is not None:
            raise _unfit(index, "coded with {}, which takes no symbol model".format(codec))
        return
    if dtype != "uint8" or model is None or model.bits != bits:
        raise _unfit(
            index,
            "{} of {} bits with {}; codec {} needs uint8 and a symbol model of the same bits".format(
                dtype, bits, "no symbol model" if model is None else "a model of {} bits".format(model.bits), codec
            ),
        )
    if codec == "rans" and model.has_contexts:
        raise _unfit(index, "coded with rans, whose model has no contexts; use rans-context")
    channels = len(model.channels)
    if channels > 1 and (len(shape) < 4 or shape[-3] != channels):
        raise _unfit(index, "of shape {} with a symbol model of {} channels".format(shape, channels))


def _unfit(index: int, reason: str) -> InputError:
    return InputError("tensor {} is {}".format(index, reason))
