"""A graph in int8: explicit QuantizeLinear and DequantizeLinear around convolutions and matrix products.

The form that TensorRT 8 to 11, TensorRT-RTX and ONNX Runtime all take: activations symmetric with one scale, weights
symmetric with a scale per output channel and stored as int8, zero points 0, bias in float (TensorRT refuses int32
ones). Everything else, FeatureEncode and FeatureDecode included, stays in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_layers import STANDARD_DOMAINS, element_types
from exporter.onnx_graphs.nodes import tensors_read

MAX_INT8 = 127


@dataclass(frozen=True)
class Quantisable:
    """A node that can run in int8: its activation and weight, and the weight's dimension of output channels."""

    activation: str
    weight: str
    axis: int


def quantisable_nodes(model: onnx.ModelProto) -> dict[int, Quantisable]:
    """Return the nodes that can run in int8, by number: those with a constant float32 weight.

    A transposed convolution in groups is none: its output channels are not a dimension of its weight.
    """
    weights = {
        tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT
    }
    types = element_types(model)
    found = {}
    for number, node in enumerate(model.graph.node):
        axis = _output_axis(node, weights.get(node.input[1], 0)) if len(node.input) > 1 else None
        is_float = axis is not None and types.get(node.input[0]) == TensorProto.FLOAT
        if axis is not None and is_float and node.input[1] in weights and node.input[0] not in weights:
            found[number] = Quantisable(node.input[0], node.input[1], axis)
    return found


def to_int8(model: onnx.ModelProto, nodes: Collection[int], ranges: Mapping[str, float]) -> onnx.ModelProto:
    """Return `model` with `nodes` (by number, each quantisable) in int8.

    `model`: weights inside; it is not changed. `ranges`: of each activation that they read the magnitude that 127
    stands for, positive. An activation is quantised once, whoever reads it.
    """
    candidates = quantisable_nodes(model)
    chosen = {number: candidates[number] for number in sorted(nodes)}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    activations = {item.activation for item in chosen.values()}
    made: list[onnx.NodeProto] = []
    for value in graph.input:
        if value.name in activations:
            made += _rounded_activation(value.name)
    dequantised: set[str] = set()
    for number, node in enumerate(graph.node):
        if number in chosen:
            item = chosen[number]
            weight = f"{item.weight}.axis{item.axis}"
            if weight not in dequantised:
                dequantised.add(weight)
                graph.initializer.extend(
                    _weight_constants(weight, numpy_helper.to_array(values[item.weight]), item.axis)
                )
                made.append(_dequantise(weight, axis=item.axis))
            node.input[0], node.input[1] = f"{item.activation}.dequantised", f"{weight}.dequantised"
        made.append(node)
        for name in node.output:
            if name in activations:
                made += _rounded_activation(name)
    for name in sorted(activations):
        graph.initializer.extend(_scale_constants(name, np.float32(ranges[name] / MAX_INT8)))
    del graph.node[:]
    graph.node.extend(made)
    still_read = tensors_read(graph.node) | {value.name for value in graph.output}
    replaced = {item.weight for item in chosen.values()} - still_read
    remaining = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.initializer[:]
    graph.initializer.extend(remaining)
    del graph.value_info[:]
    return result


def quantised_weight(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a weight as int8 from -127 to 127, and its scales (float32), one per index of `axis`.

    A channel of zeros gets the scale 1.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    scales = (np.abs(weight).max(axis=others) / np.float32(MAX_INT8)).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))
    shape = [1] * weight.ndim
    shape[axis] = -1
    rounded = np.rint(weight / scales.reshape(shape))
    return np.clip(rounded, -MAX_INT8, MAX_INT8).astype(np.int8), scales


def _output_axis(node: onnx.NodeProto, dimensions: int) -> int | None:
    """Return the dimension of a node's weight that is its output channels; None where it cannot run in int8."""
    attributes = {item.name: item for item in node.attribute}
    if node.domain not in STANDARD_DOMAINS:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        groups = attributes["group"].i if "group" in attributes else 1
        return 1 if groups == 1 else None
    if node.op_type == "Gemm":
        return 0 if "transB" in attributes and attributes["transB"].i else 1
    return 1 if node.op_type == "MatMul" and dimensions == 2 else None


def _rounded_activation(name: str) -> list[onnx.NodeProto]:
    constants = [f"{name}.scale", f"{name}.zero_point"]
    quantise = helper.make_node("QuantizeLinear", [name, *constants], [f"{name}.int8"], name=f"/QuantizeLinear/{name}")
    return [quantise, _dequantise(name)]


def _dequantise(name: str, axis: int | None = None) -> onnx.NodeProto:
    reads = [f"{name}.int8", f"{name}.scale", f"{name}.zero_point"]
    label = f"/DequantizeLinear/{name}"
    node = helper.make_node("DequantizeLinear", reads, [f"{name}.dequantised"], name=label)
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _weight_constants(name: str, weight: NDArray[np.float32], axis: int) -> list[onnx.TensorProto]:
    rounded, scales = quantised_weight(weight, axis)
    return [numpy_helper.from_array(rounded, f"{name}.int8"), *_scale_constants(name, scales)]


def _scale_constants(name: str, scales: NDArray[np.float32] | np.float32) -> list[onnx.TensorProto]:
    numbers = np.asarray(scales, np.float32)
    zeros = np.zeros(numbers.shape, np.int8)
    return [numpy_helper.from_array(numbers, f"{name}.scale"), numpy_helper.from_array(zeros, f"{name}.zero_point")]
