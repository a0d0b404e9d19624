"""A chain of convolutions made by hand, with what is planted in it, as a subject that can be converted and
evaluated.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.metrics.metric import TOP1, top1
from calibration.precision.evaluator import Evaluator, open_evaluator
from calibration.precision.graph_layers import node_layers
from calibration.precision.network_under_test import WHOLE, NetworkUnderTest, Subgraph
from exporter.bundles.bundle import FileRecord
from exporter.layers.candidates import candidates
from exporter.onnx_graphs.session import open_session, run

CHANNELS, SIDE, CLASSES = 8, 8, 5
LAYERS = ("conv1", "conv2", "conv3", "conv4")


def chain(seed: int = 0) -> onnx.ModelProto:
    """Return four convolutions with ReLUs behind them, a mean over positions, and a classifier; N x 3 x 8 x 8."""
    generator = np.random.default_rng(seed)
    nodes, weights = [], []
    source, width = "images", 3
    for layer in LAYERS:
        filters = generator.standard_normal((CHANNELS, width, 3, 3)) / np.sqrt(width * 4.5)
        weights += [
            numpy_helper.from_array(filters.astype(np.float32), f"{layer}.weight"),
            numpy_helper.from_array(generator.standard_normal(CHANNELS).astype(np.float32) / 10, f"{layer}.bias"),
        ]
        reads, result = [source, f"{layer}.weight", f"{layer}.bias"], f"{layer}_out"
        nodes.append(helper.make_node("Conv", reads, [result], name=f"/{layer}/Conv", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [result], [f"{result}_relu"], name=f"/{layer}_relu/Relu"))
        source, width = f"{result}_relu", CHANNELS
    weights.append(
        numpy_helper.from_array(generator.standard_normal((CLASSES, CHANNELS)).astype(np.float32), "fc.weight")
    )
    nodes.append(helper.make_node("ReduceMean", [source], ["pooled"], name="/pool/ReduceMean", axes=[2, 3], keepdims=0))
    nodes.append(helper.make_node("Gemm", ["pooled", "fc.weight"], ["scores"], name="/fc/Gemm", transB=1))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def scale_channel(model: onnx.ModelProto, layer: str, factor: float, undone_in: str) -> onnx.ModelProto:
    """Return `model` with channel 0 behind `layer` so many times larger, undone in the weights that read it.

    The network computes the same: what is between the two is positively homogeneous.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in (f"{layer}.weight", f"{layer}.bias"):
            values[0] *= np.float32(factor)
        elif tensor.name == f"{undone_in}.weight":
            values[:, 0] /= np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


def images(count: int = 96, seed: int = 1) -> np.ndarray:
    """Return random inputs, count x 3 x 8 x 8, float32, each with a brightness of its own."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((count, 3, SIDE, SIDE)) + generator.standard_normal((count, 3, 1, 1))
    return values.astype(np.float32)


def subgraph_of(model: onnx.ModelProto) -> Subgraph:
    """Return the whole of a model as a part."""
    return Subgraph(
        WHOLE, model, FileRecord(file="model.onnx", sha256=""), node_layers(model, candidates(model)), False
    )


def evaluator_of(model: onnx.ModelProto, inputs: np.ndarray) -> Evaluator:
    """Return an evaluator whose labels are the answers of the float32 model: every other answer is wrong."""
    labels = run(open_session(model, "disabled"), [inputs])[0].argmax(axis=1)
    return open_evaluator(NetworkUnderTest(WHOLE, (subgraph_of(model),)), inputs, labels, (TOP1, top1))
