"""Split an exported network at some tensors: cut, prove the cut exact, encode, prove the encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.cutting.cut import Halves, cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import EncodeSpecification, decode, encode, feature_tensor
from exporter.layers.candidates import Layer
from exporter.onnx_graphs.index import GraphIndex
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.tensor_types import TensorType
from exporter.parity import Parity, check_values, passing_parity
from jetson.errors import CoopexportError, UnsupportedError, reworded
from jetson.wire.feature import FeatureCodec, FeatureTensor

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CutPosition = Literal["post-activation", "pre-activation"]
Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class CutTensor:
    """One tensor that crosses a cut: its name and shape (without batch) in the whole graph, and its encoding."""

    tensor: str
    shape: tuple[int, ...]
    encoding: EncodeSpecification

    @property
    def feature(self) -> FeatureTensor:
        """What takes its symbols out of the head and into the tail."""
        return feature_tensor(self.encoding, self.tensor, self.shape)


@dataclass(frozen=True)
class Split:
    """A network cut at some tensors.

    `plain` are the un-encoded halves, `encoded` those with the feature encoding; `head_outputs` (what leaves the head,
    tensor by tensor), `exits` (outputs of the network that the head makes), `tail_inputs` (what the tail takes of what
    was sent) and `outputs` (of the tail) are what the encoded halves gave for the inputs of the parity checks.
    """

    cut_tensors: tuple[CutTensor, ...]
    plain: Halves
    encoded: Halves
    parity: tuple[Parity, ...]
    head_outputs: Arrays
    exits: Arrays
    tail_inputs: Arrays
    outputs: Arrays


def cut_tensor_of(layer: Layer, position: CutPosition) -> str:
    """Return the tensor that crosses when cutting after `layer`; raises CoopexportError when there is none."""
    if position == "post-activation":
        return layer.tensor
    if layer.tensor_before_activation is None:
        raise UnsupportedError(
            f'layer "{layer.name}" has no activation behind it', layer=layer.name, fix="leave out --at pre-activation"
        )
    return layer.tensor_before_activation


def split(
    model: onnx.ModelProto | GraphIndex,
    boundaries: Sequence[CutTensor],
    inputs: NDArray[np.float32],
    where: str,
    expected: Mapping[str, NDArray[Any]] | None = None,
    weights_folder: Path | None = None,
) -> Split:
    """Cut `model` at some tensors and encode what crosses.

    `model`: the whole exported graph, or its index where it is cut many times; `boundaries`: all that crosses, in the
    graph's order; `inputs`: N x ..., float32, preprocessed; `where`: what the cut is called in messages; `expected`:
    `whole_outputs` of the graph, if known; `weights_folder`: where its external weights lie. Both parity checks run
    with ONNX Runtime's optimisation disabled: tail(head(x)) must equal the whole graph bit for bit, and symbols and
    decoded features must equal the NumPy reference. Raises CoopexportError naming `where` when something else crosses
    or a parity check fails.
    """
    try:
        plain = cut(
            model,
            [cut_tensor.tensor for cut_tensor in boundaries],
            {cut_tensor.tensor: TensorType(cut_tensor.shape) for cut_tensor in boundaries},
        )
    except CoopexportError as error:
        raise reworded(error, f'layer "{where}": {error}', layer=where) from None
    if expected is None:
        expected = whole_outputs(model.model if isinstance(model, GraphIndex) else model, inputs, weights_folder)
    features, tail, exactness = cut_parity(expected, plain, inputs, where, weights_folder)
    encoded = encode_halves(plain, [cut_tensor.encoding for cut_tensor in boundaries])
    made, tail_inputs, outputs, encoding = _encoding_parity(
        encoded, tail, boundaries, features, inputs, where, weights_folder
    )
    count = len(boundaries)
    return Split(
        tuple(boundaries), plain, encoded, (exactness, encoding), made[:count], made[count:], tail_inputs, outputs
    )


def whole_outputs(
    whole: onnx.ModelProto, inputs: NDArray[np.float32], weights_folder: Path | None = None
) -> dict[str, NDArray[Any]]:
    """Return the outputs of the whole graph for `inputs` by name, optimisation disabled: what a cut has to equal."""
    names = [value.name for value in whole.graph.output]
    return dict(zip(names, run(_open(whole, weights_folder), [inputs]), strict=True))


def cut_parity(
    expected: Mapping[str, NDArray[Any]],
    halves: Halves,
    inputs: NDArray[np.float32],
    where: str,
    weights_folder: Path | None = None,
) -> tuple[Arrays, InferenceSession, Parity]:
    """Check that head and tail together equal the whole graph bit for bit, optimisation disabled.

    `expected`: `whole_outputs` for `inputs`. Returns the features at the cut, the open tail and the check; raises
    CoopexportError naming `where` on any difference, and when an output or a feature is empty.
    """
    for name, value in expected.items():
        check_values(value, f"{where}: parity check 'cut': output '{name}'")
    made = run(_open(halves.head, weights_folder), [inputs])
    features = made[: len(halves.tail.graph.input)]
    for cut_tensor, feature in zip(halves.tail.graph.input, features, strict=True):
        check_values(feature, f"{where}: parity check 'cut': tensor '{cut_tensor.name}'")
    tail = _open(halves.tail, weights_folder)
    outputs = run(tail, features)
    found = dict(zip([value.name for value in halves.head.graph.output], made, strict=True))
    found |= zip([value.name for value in halves.tail.graph.output], outputs, strict=True)
    different = sum(bits_that_differ(value, found[name]) for name, value in expected.items())
    how = "outputs that differ in any bit, ONNX Runtime, optimisation disabled"
    return features, tail, passing_parity(Parity("cut", float(different), 0.0, len(inputs), how), where)


def _open(model: onnx.ModelProto, weights_folder: Path | None) -> InferenceSession:
    return open_session(model, "disabled", weights_folder=weights_folder)


def bits_that_differ(some: NDArray[Any], others: NDArray[Any]) -> int:
    """Return how many values of two arrays are not the same bits: 0 and -0 differ, equal NaN patterns do not."""
    if (some.shape, some.dtype) != (others.shape, others.dtype):
        return max(some.size, others.size)
    size = some.dtype.itemsize
    one, other = (np.ascontiguousarray(item).view(np.uint8).reshape(-1, size) for item in (some, others))
    return int((one != other).any(axis=1).sum())


def _encoding_parity(
    encoded: Halves,
    plain_tail: InferenceSession,
    cut_tensors: Sequence[CutTensor],
    features: Arrays,
    inputs: NDArray[np.float32],
    where: str,
    weights_folder: Path | None,
) -> tuple[Arrays, Arrays, Arrays, Parity]:
    """Check what is sent against the reference, and the tail on it against the plain tail on decoded features."""
    made = run(_open(encoded.head, weights_folder), [inputs])
    head_outputs = made[: len(cut_tensors)]
    codec = FeatureCodec(tuple(item.feature for item in cut_tensors))
    tail_inputs = codec.tail_inputs(codec.symbols(made))
    outputs = run(_open(encoded.tail, weights_folder), tail_inputs)
    reference = [encode(item.encoding, one) for item, one in zip(cut_tensors, features, strict=True)]
    decoded = [decode(item.encoding, one, item.shape) for item, one in zip(cut_tensors, reference, strict=True)]
    reference_outputs = run(plain_tail, decoded)
    for one in (*head_outputs, *outputs):
        check_values(one, f"{where}: parity check 'encode': what is compared")
    pairs = [*zip(head_outputs, reference, strict=True), *zip(outputs, reference_outputs, strict=True)]
    different = sum(bits_that_differ(one, other) for one, other in pairs)
    how = "symbols and outputs that differ from the NumPy reference, ONNX Runtime, optimisation disabled"
    return made, tail_inputs, outputs, passing_parity(Parity("encode", float(different), 0.0, len(inputs), how), where)
