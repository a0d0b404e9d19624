"""Predictions of what ONNX Runtime really takes: every cut of a small network, measured here and now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.latency.bench import time_functions
from benchmarks.prediction.columns import Column
from benchmarks.prediction.kernels import kernels_of
from benchmarks.prediction.regression import Measured, leave_one_cut_out
from exporter.cutting.cut import cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import EncodeSpecification
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.random_inputs import random_inputs
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types

# Output channels and stride of each convolution; times of heads grow by more than ten times along them.
LAYERS = ((16, 1), (32, 2), (32, 1), (48, 1), (48, 2), (96, 1), (96, 1), (128, 2), (128, 1), (64, 1))
# Seen: 2 % to 15 % on a machine with ten times as much to do as it has cores; 40 % and more with wrong work.
BOUND = 0.3
EIGHT_BITS = EncodeSpecification("affine", 8, (0.0,), (0.1,), (10.0,))


def chain() -> onnx.ModelProto:
    """Return convolutions with an activation each, for images of 3 x 48 x 48; tensors behind them: out0, out1 ..."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    tensor, channels = "images", 3
    for index, (width, stride) in enumerate(LAYERS):
        numbers = generator.normal(size=(width, channels, 3, 3)).astype(np.float32) / 10
        weights.append(numpy_helper.from_array(numbers, f"w{index}"))
        how = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "name": f"/layer{index}/Conv"}
        nodes.append(helper.make_node("Conv", [tensor, f"w{index}"], [f"sum{index}"], **how))
        nodes.append(helper.make_node("Relu", [f"sum{index}"], [f"out{index}"], name=f"/layer{index}/Relu"))
        tensor, channels = f"out{index}", width
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 48, 48])
    last = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", channels, 6, 6])
    graph = helper.make_graph(nodes, "chain", [images], [last], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def call_of(model: onnx.ModelProto) -> Callable[[], Any]:
    session, feed = open_session(model, "all"), random_inputs(model, 1, 0)
    return lambda: session.run(None, feed)


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    model = chain()
    index, types = index_graph(model), tensor_types(model)
    graphs = {("whole", "whole"): model}
    for number in range(len(LAYERS) - 1):
        halves = encode_halves(cut(index, [f"out{number}"], types), [EIGHT_BITS])
        graphs[f"out{number}", "head"], graphs[f"out{number}", "tail"] = halves.head, halves.tail
    times = time_functions({"/".join(key): call_of(graph) for key, graph in graphs.items()}, 20, 3)
    return [Measured(*key, kernels_of(graph), times["/".join(key)].p50_ms) for key, graph in graphs.items()]


def median_error(cells: Sequence[Measured], columns: Sequence[Column] | None = None) -> float:
    return float(np.nanmedian(np.abs(leave_one_cut_out(cells, columns))))


def test_times_of_cuts_that_were_left_out_are_near(measured: list[Measured]) -> None:
    error = median_error(measured)
    print(f"median error {error:.1%}, worst {np.nanmax(np.abs(leave_one_cut_out(measured))):.1%}")
    assert error < BOUND
    # Without work, or with the work of the other side of the cut, there is nothing to tell times by.
    assert median_error(measured, [Column((), "kernels")]) > BOUND
    by_key = {(cell.cut, cell.part): cell.kernels for cell in measured}
    other = {"head": "tail", "tail": "head", "whole": "whole"}
    wrong = [Measured(cell.cut, cell.part, by_key[cell.cut, other[cell.part]], cell.ms) for cell in measured]
    assert median_error(wrong) > BOUND
