"""Split an exported network at a layer: cut, prove the cut exact, encode, prove the encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.candidates import Layer
from exporter.cut import Halves, cut, encode_halves
from exporter.encoding import EncodeSpecification, decode, encode
from exporter.layer_names import short_name
from exporter.onnx_session import open_session, run
from exporter.parity import Parity, require
from exporter.tensor_types import TensorType
from jetson.errors import CoopexportError

CutPosition = Literal["post-activation", "pre-activation"]


@dataclass(frozen=True)
class Split:
    """A network cut at one layer.

    `plain` are the un-encoded halves, `encoded` those with the feature encoding; `symbols` and `outputs` are what the
    encoded halves gave for the inputs of the gate.
    """

    layer: Layer
    tensor: str
    specification: EncodeSpecification
    plain: Halves
    encoded: Halves
    parity: tuple[Parity, ...]
    symbols: NDArray[Any]
    outputs: NDArray[np.float32]


def boundary_tensor(layer: Layer, position: CutPosition) -> str:
    """Return the tensor that crosses when cutting after `layer`; raises CoopexportError when there is none."""
    if position == "post-activation":
        return layer.tensor
    if layer.tensor_before_activation is None:
        raise CoopexportError(f'layer "{layer.name}" has no activation behind it; leave out --at pre-activation')
    return layer.tensor_before_activation


def split(
    model: onnx.ModelProto,
    layer: Layer,
    specification: EncodeSpecification,
    inputs: NDArray[np.float32],
    position: CutPosition = "post-activation",
) -> Split:
    """Cut `model` after `layer` and encode the feature there.

    `model`: the whole exported graph; `inputs`: N x ..., float32, preprocessed. Both gates run with ONNX Runtime's
    optimisation disabled: tail(head(x)) must equal the whole graph bit for bit, and symbols and decoded features must
    equal the NumPy reference. Raises CoopexportError naming the layer when the cut is not clean or a gate fails.
    """
    tensor = boundary_tensor(layer, position)
    try:
        plain = cut(model, [tensor], {tensor: TensorType(layer.shape)})
    except CoopexportError as error:
        raise CoopexportError(f'layer "{layer.name}": {error}') from None
    feature, exactness = prove_exact(model, plain, inputs, layer.name)
    encoded = encode_halves(plain, specification)
    symbols, outputs, encoding = _prove_encoding(encoded, plain, specification, feature, inputs, layer.name)
    return Split(layer, tensor, specification, plain, encoded, (exactness, encoding), symbols, outputs)


def prove_exact(
    whole: onnx.ModelProto, halves: Halves, inputs: NDArray[np.float32], where: str
) -> tuple[NDArray[np.float32], Parity]:
    """Check that tail(head(x)) equals the whole graph bit for bit, optimisation disabled.

    Returns the feature at the cut and the check; raises CoopexportError naming `where` on any difference.
    """
    expected = run(open_session(whole, "disabled"), [inputs])[0]
    feature = run(open_session(halves.head, "disabled"), [inputs])[0]
    outputs = run(open_session(halves.tail, "disabled"), [feature])[0]
    # Compared as bits, so that 0 and -0 differ and equal NaN patterns do not.
    different = int((expected.view(np.uint32) != outputs.view(np.uint32)).sum())
    how = "outputs that differ in any bit, ONNX Runtime, optimisation disabled"
    return feature, require(Parity("cut", float(different), 0.0, len(inputs), how), where)


def _prove_encoding(
    encoded: Halves,
    plain: Halves,
    specification: EncodeSpecification,
    feature: NDArray[np.float32],
    inputs: NDArray[np.float32],
    where: str,
) -> tuple[NDArray[Any], NDArray[np.float32], Parity]:
    """Check symbols against the reference, and the tail on symbols against the plain tail on decoded features."""
    symbols = run(open_session(encoded.head, "disabled"), [inputs])[0]
    outputs = run(open_session(encoded.tail, "disabled"), [symbols])[0]
    reference_symbols = encode(specification, feature)
    reference_outputs = run(open_session(plain.tail, "disabled"), [decode(specification, reference_symbols)])[0]
    different = int((symbols != reference_symbols).sum())
    different += int((outputs.view(np.uint32) != reference_outputs.view(np.uint32)).sum())
    how = "symbols and outputs that differ from the NumPy reference, ONNX Runtime, optimisation disabled"
    return symbols, outputs, require(Parity("encode", float(different), 0.0, len(inputs), how), where)


def display_name(layers: tuple[Layer, ...], layer: Layer) -> str:
    """Return the short name of `layer`, usable as a file name."""
    return short_name(layers, layer.name).strip("/").replace("/", "_")
