"""What happens to a tensor at the cut: the specification, the NumPy reference, and the same as ONNX functions.

JALAD (Li et al. 2018) and Cohen et al. 2021 quantise features affinely with a calibrated clipping range; this is
their quantiser with exactly 2^bits saturating symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from jetson.errors import CoopexportError

DOMAIN = "ai.coopexport"
DOMAIN_VERSION = 1
ENCODE, DECODE = "FeatureEncode", "FeatureDecode"


@dataclass(frozen=True)
class ClipRange:
    """Range that is quantised, and where it comes from.

    `low` < `high`, in the feature's own units; `minimum` and `maximum` are the true extremes over `samples`
    calibration samples; `percentile` is None for min-max.
    """

    low: float
    high: float
    method: Literal["minmax", "percentile"]
    percentile: float | None
    samples: int
    minimum: float
    maximum: float


@dataclass(frozen=True)
class EncodeSpecification:
    """How one tensor is encoded at the cut.

    `affine`: symbol = uint8(clip(round((x - low) * inverse_step), 0, 2^bits - 1)), in float32, round half to even;
    NaN becomes 0. `float32`: sent as it is.
    """

    kind: Literal["affine", "float32"]
    bits: int = 32
    low: float = 0.0
    step: float = 1.0
    inverse_step: float = 1.0
    clip: ClipRange | None = None

    @property
    def symbol_dtype(self) -> str:
        """NumPy's name for the dtype that crosses the link."""
        return "uint8" if self.kind == "affine" else "float32"

    @property
    def highest_symbol(self) -> int:
        """Largest symbol, 2^bits - 1."""
        return (1 << self.bits) - 1


def affine_specification(clip: ClipRange, bits: int = 8) -> EncodeSpecification:
    """Return the affine specification for a clip range; raises CoopexportError when the range is unusable.

    `bits`: 8 (one symbol per byte).
    """
    if bits != 8:
        raise CoopexportError(f"{bits} bits per symbol were asked for; this version encodes with 8")
    with np.errstate(over="ignore", divide="ignore"):
        step = np.float32((clip.high - clip.low) / ((1 << bits) - 1))
        inverse_step = np.float32(1.0) / step
        reached = np.float32(clip.low), np.float32(clip.high), step * np.float32((1 << bits) - 1)
    if not (np.isfinite(reached).all() and clip.low < clip.high):
        raise CoopexportError(
            f"the clip range {clip.low} to {clip.high} is empty, or too wide for float32; calibrate again"
        )
    if not np.isfinite(inverse_step):
        raise CoopexportError(f"the clip range {clip.low} to {clip.high} is too narrow for float32; calibrate again")
    low = float(np.float32(clip.low))
    return EncodeSpecification("affine", bits, low, float(step), float(inverse_step), clip)


def encode(specification: EncodeSpecification, feature: NDArray[np.float32]) -> NDArray[Any]:
    """Return the symbols of `feature` (any shape, float32): the reference that the graph must equal.

    uint8 for `affine`, the feature itself for `float32`.
    """
    if specification.kind == "float32":
        return feature
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (feature - np.float32(specification.low)) * np.float32(specification.inverse_step)
        clipped = np.clip(np.rint(scaled), 0, specification.highest_symbol)
    return np.where(np.isnan(clipped), np.float32(0), clipped).astype(np.uint8)


def decode(specification: EncodeSpecification, symbols: NDArray[Any]) -> NDArray[np.float32]:
    """Return the feature (float32) that `symbols` stand for: the reference that the graph must equal."""
    if specification.kind == "float32":
        return np.asarray(symbols, dtype=np.float32)
    scaled = symbols.astype(np.float32) * np.float32(specification.step)
    return scaled + np.float32(specification.low)


def encode_node(specification: EncodeSpecification, tensor: str, symbols: str) -> onnx.NodeProto:
    """Return the node that turns `tensor` into `symbols`."""
    attributes = {
        "low": specification.low,
        "inverse_step": specification.inverse_step,
        "highest_symbol": float(specification.highest_symbol),
    }
    return _function_node(ENCODE, tensor, symbols, f"/{ENCODE}/{symbols}", attributes)


def decode_node(specification: EncodeSpecification, symbols: str, tensor: str) -> onnx.NodeProto:
    """Return the node that turns `symbols` back into `tensor`."""
    attributes = {"low": specification.low, "step": specification.step}
    return _function_node(DECODE, symbols, tensor, f"/{DECODE}/{symbols}", attributes)


def _function_node(function: str, reads: str, makes: str, name: str, attributes: Mapping[str, float]) -> onnx.NodeProto:
    node = helper.make_node(function, [reads], [makes], name=name, domain=DOMAIN)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return node


def encode_function(opset: int) -> onnx.FunctionProto:
    """Return FeatureEncode as an ONNX local function, in standard operators of `opset`.

    The cast comes last and is not a QuantizeLinear, which TensorRT silently turns into int8.
    """
    nodes = [
        _attribute_constant("low"),
        _attribute_constant("inverse_step"),
        _attribute_constant("highest_symbol"),
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Sub", ["feature", "low_value"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "inverse_step_value"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "zero", "highest_symbol_value"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["symbols"], to=TensorProto.UINT8),
    ]
    attributes = ["low", "inverse_step", "highest_symbol"]
    return helper.make_function(
        DOMAIN, ENCODE, ["feature"], ["symbols"], nodes, [helper.make_opsetid("", opset)], attributes
    )


def decode_function(opset: int) -> onnx.FunctionProto:
    """Return FeatureDecode as an ONNX local function, in standard operators of `opset`."""
    nodes = [
        _attribute_constant("low"),
        _attribute_constant("step"),
        helper.make_node("Cast", ["symbols"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "step_value"], ["scaled"]),
        helper.make_node("Add", ["scaled", "low_value"], ["feature"]),
    ]
    return helper.make_function(
        DOMAIN, DECODE, ["symbols"], ["feature"], nodes, [helper.make_opsetid("", opset)], ["low", "step"]
    )


def _attribute_constant(attribute: str) -> onnx.NodeProto:
    """Return a Constant node that takes its value from the function's attribute of that name."""
    node = helper.make_node("Constant", [], [f"{attribute}_value"])
    reference = onnx.AttributeProto(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name=attribute)
    node.attribute.append(reference)
    return node
