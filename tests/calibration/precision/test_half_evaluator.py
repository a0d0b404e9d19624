"""The evaluator gives half's own results: those of onnx's reference, of PyTorch in half, and of NumPy."""

from __future__ import annotations

import platform

import numpy as np
import onnx
import pytest
import torch
from chain_networks import chain, images
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from calibration.precision.half_evaluator import rounding_graph
from calibration.precision.half_precision import to_half
from exporter.onnx_graphs.session import open_session, run

CHAIN = chain()


def elementwise(operator: str) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    inputs = ["x", "z"] if operator in BINARY else ["x"]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "one",
        [value(name, TensorProto.FLOAT, ["batch", 6]) for name in inputs],
        [value("y", TensorProto.FLOAT, ["batch", 6])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
UNARY = {"Relu": lambda x: np.maximum(x, 0), "Neg": np.negative, "Sqrt": np.sqrt, "Abs": np.abs}
SESSIONS = {
    operator: open_session(rounding_graph(to_half(elementwise(operator))), "disabled") for operator in (*BINARY, *UNARY)
}
floats = st_numpy.arrays(np.float32, (2, 6), elements=st.floats(-1e5, 1e5, width=32))


@given(floats, floats, st.sampled_from([*BINARY, *UNARY]))
def test_every_operation_is_rounded_as_numpy_rounds_half(one: np.ndarray, other: np.ndarray, operator: str) -> None:
    """NumPy computes float16 in float32 and rounds once: IEEE 754's result, as float32 has more than twice the bits."""
    with np.errstate(all="ignore"):
        halves = [value.astype(np.float16) for value in (one, other)]
        expected = (BINARY[operator](*halves) if operator in BINARY else UNARY[operator](halves[0])).astype(np.float32)
        given_values = [one, other] if operator in BINARY else [one]
        found = run(SESSIONS[operator], given_values)[0]
    assert np.array_equal(found, expected, equal_nan=True)


def without_bias() -> onnx.ModelProto:
    """Return the chain's first two convolutions, without what the reference evaluator rounds twice: the bias."""
    model = onnx.ModelProto()
    model.CopyFrom(CHAIN)
    del model.graph.node[4:]
    for node in model.graph.node:
        del node.input[2:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("conv2_out_relu", TensorProto.FLOAT, [None] * 4))
    return model


@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e-5, 1e3, 3e4, 1e6])
def test_convolutions_equal_the_reference_evaluator(factor: float) -> None:
    """Up to sums of float32 in another order, which now and then round to a neighbour; infinities where it has them."""
    made = to_half(without_bias())
    inputs = images(4) * np.float32(factor)
    found = run(open_session(rounding_graph(made), "disabled"), [inputs])[0]
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(made).run(None, {"images": inputs})[0]
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.isfinite(found).all() == (factor < 1e4)
    there = np.isfinite(found)
    if there.any():
        assert (found[there] == expected[there]).mean() > 0.98
        np.testing.assert_allclose(found[there], expected[there], rtol=2**-9, atol=2**-9 * factor)


def test_half_costs_what_the_reference_evaluator_says() -> None:
    made = to_half(CHAIN)
    inputs = images(8)
    plain = run(open_session(CHAIN, "disabled"), [inputs])[0]
    found = run(open_session(rounding_graph(made), "disabled"), [inputs])[0]
    expected = ReferenceEvaluator(made).run(None, {"images": inputs})[0]
    cost = np.sqrt(np.mean((expected - plain) ** 2))
    assert 0.3 * cost < np.sqrt(np.mean((found - plain) ** 2)) < 1.2 * cost


def test_networks_agree_with_pytorch_in_half() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
                                  torch.nn.Conv2d(8, 8, 3)).eval()  # fmt: skip
    inputs = torch.from_numpy(images(8))
    from exporter.layers.export import export

    made = to_half(export(network, inputs).model)
    found = run(open_session(rounding_graph(made), "disabled"), [inputs.numpy()])[0]
    with torch.no_grad():
        expected = network.half()(inputs.half()).float().numpy()
    same = found == expected
    # Sums of the same halves in another order: the same number, or its neighbour.
    assert same.mean() > 0.95
    np.testing.assert_allclose(found, expected, rtol=2**-9, atol=2**-9)


@pytest.mark.parametrize(("largest", "finite"), [(65000.0, True), (65519.0, True), (65520.0, False), (108000.0, False)])
def test_overflow_is_infinite_as_in_half_where_onnx_runtime_hides_it(largest: float, finite: bool) -> None:
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/big/Conv"),
        helper.make_node("Conv", ["a", "v"], ["y"], name="/back/Conv"),
    ]
    weights = [helper.make_tensor("w", 1, [1, 1, 1, 1], [1000.0]), helper.make_tensor("v", 1, [1, 1, 1, 1], [0.001])]
    shape = ["batch", 1, 1, 1]
    graph = helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], weights)
    made = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    inputs = np.full((1, 1, 1, 1), largest / 1000, np.float32)
    product = np.float32(np.float16(largest / 1000)) * np.float32(1000)
    if (np.abs(product) < 65520) != finite:  # the input itself is rounded to half
        return
    found = run(open_session(rounding_graph(made), "disabled"), [inputs])[0]
    assert np.isfinite(found).all() == finite
    if platform.machine() == "x86_64":  # an arm64 processor with half arithmetic may compute in half
        # If this ever fails, ONNX Runtime has learnt to compute in half, and the evaluator is not needed.
        assert np.isfinite(run(open_session(made, "disabled"), [inputs])[0]).all()


def test_optimisation_fuses_no_rounding_away() -> None:
    graph = rounding_graph(to_half(CHAIN))
    inputs = images(8)
    one, other = (run(open_session(graph, level), [inputs])[0] for level in ("disabled", "all"))
    half = np.abs(one - run(open_session(CHAIN, "disabled"), [inputs])[0]).max()
    assert np.abs(one - other).max() < 0.5 * half
