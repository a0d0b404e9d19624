"""A network of four nodes, and its halves, made by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.cutting.cut import Halves, cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import ClipRange, EncodeSpecification, affine_specification

CHANNELS, SIDE, CLASSES = 4, 6, 5
FEATURE_SHAPE = (CHANNELS, SIDE, SIDE)


def small_network(seed: int = 0, batch: str | int = "batch", activation: str = "Relu") -> onnx.ModelProto:
    """Return Conv, activation, Flatten, Gemm over N x 3 x 6 x 6, with random weights."""
    generator = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(generator.standard_normal((CHANNELS, 3, 3, 3)).astype(np.float32), "filters"),
        numpy_helper.from_array(generator.standard_normal((CLASSES, CHANNELS * SIDE * SIDE)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "filters"], ["convolved"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["convolved"], ["feature"], name="act1"),
        helper.make_node("Flatten", ["feature"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], name="classify", transB=1),
    ]
    return make_model(nodes, {"images": [batch, 3, SIDE, SIDE]}, {"scores": [batch, CLASSES]}, weights)


def make_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[str | int]],
    outputs: dict[str, list[str | int]],
    weights: list[onnx.TensorProto] | None = None,
    output_type: int = TensorProto.FLOAT,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """Return a model of opset 13; inputs are float32, shapes by name."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, output_type, shape) for name, shape in outputs.items()],
        weights or [],
    )
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def small_specification() -> EncodeSpecification:
    """Return 8 bits over 0 to 6."""
    return affine_specification(ClipRange((0.0,), (6.0,), "minmax", None, 16, (0.0,), (6.0,)))


def small_halves(seed: int = 0) -> Halves:
    """Return the network cut behind its activation, with 8-bit symbols between the halves."""
    return encode_halves(cut(small_network(seed), ["feature"]), [small_specification()])


def small_inputs(count: int, seed: int = 1) -> np.ndarray:
    """Return random inputs, count x 3 x 6 x 6, float32."""
    return np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)
