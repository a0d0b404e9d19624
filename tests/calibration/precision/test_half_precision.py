"""Graphs in half: strongly typed, the same ends, casts only at borders, and what must not be half is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from chain_networks import chain, images
from family_graphs import exported
from hypothesis import given
from hypothesis import strategies as st
from network_families import FAMILIES
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.evaluator import output_error
from calibration.precision.graph_layers import element_types
from calibration.precision.half_evaluator import rounding_graph
from calibration.precision.half_precision import constants_out_of_range, half_ends, to_half
from exporter.cutting.cut import cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import (
    FLOAT16,
    FLOAT32,
    ClipRange,
    EncodeSpecification,
    affine_specification,
    feature_tensor,
)
from exporter.onnx_graphs.session import open_session, run
from jetson.wire.feature import FeatureCodec

CHAIN = chain()
NODES = len(CHAIN.graph.node)
CLIP = ClipRange((0.0,), (6.0,), "minmax", None, 16, (0.0,), (6.0,))


def model_of(
    nodes: list[onnx.NodeProto],
    outputs: dict[str, int],
    constants: dict[str, np.ndarray] | None = None,
    shape: tuple[int, ...] = (4,),
    opset: int = 13,
) -> onnx.ModelProto:
    """Return a model that reads `x` (N x shape, float32); `outputs`: names and dtypes."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info(name, kind, [None] * (1 + len(shape))) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_everything_is_half_between_one_cast_at_each_end() -> None:
    before = CHAIN.SerializeToString(deterministic=True)
    made = to_half(CHAIN)
    assert CHAIN.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made, full_check=True)
    assert operators(made) == ["Cast", *operators(CHAIN), "Cast"]
    assert (made.graph.input, made.graph.output) == (CHAIN.graph.input, CHAIN.graph.output)
    assert {tensor.data_type for tensor in made.graph.initializer} == {TensorProto.FLOAT16}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in CHAIN.graph.initializer}
    for tensor in made.graph.initializer:
        expected = weights[tensor.name.removesuffix(".half")].astype(np.float16)
        assert np.array_equal(numpy_helper.to_array(tensor), expected)


@given(st.sets(st.integers(0, NODES - 1)))
def test_no_node_reads_both_and_kept_ones_read_float(keep: set[int]) -> None:
    """full_check infers every dtype: a node that read half and float would be refused."""
    made = to_half(CHAIN, keep)
    onnx.checker.check_model(made, full_check=True)
    types = element_types(made)
    left = [node for node in made.graph.node if node.op_type != "Cast"]
    assert [node.name for node in left] == [node.name for node in CHAIN.graph.node]
    for number, node in enumerate(left):
        expected = TensorProto.FLOAT if number in keep else TensorProto.FLOAT16
        assert {types[name] for name in (*node.input, *node.output)} == {expected}
    casts = [node for node in made.graph.node if node.op_type == "Cast"]
    ends = [False, *(number not in keep for number in range(NODES)), False]
    assert len(casts) == sum(one != other for one, other in pairwise(ends))


def test_all_kept_is_the_same_graph_to_the_bit() -> None:
    made = to_half(CHAIN, range(NODES))
    inputs = images(4)
    one, other = (run(open_session(model, "disabled"), [inputs])[0] for model in (CHAIN, made))
    assert one.tobytes() == other.tobytes()
    assert operators(made) == operators(CHAIN)


def test_a_tensor_that_is_output_and_read_is_there_in_both_precisions() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["early"], name="first"),
        helper.make_node("Add", ["early", "one"], ["late"], name="second"),
        helper.make_node("Abs", ["early"], ["third"], name="third"),
    ]
    constants = {"one": np.float32([1])}
    model = model_of(nodes, dict.fromkeys(("early", "late", "third"), TensorProto.FLOAT), constants)
    for keep in ([], [1], [0], [1, 2]):
        made = to_half(model, keep)
        onnx.checker.check_model(made, full_check=True)
        assert [value.name for value in made.graph.output] == ["early", "late", "third"]
        inputs = np.float32([[0.1, -0.2, 0.3, 70.7]])
        results = run(open_session(rounding_graph(made), "disabled"), [inputs])
        rounded = np.maximum(inputs.astype(np.float16).astype(np.float32) if 0 not in keep else inputs, 0)
        assert np.array_equal(results[0], rounded)


def test_operands_that_are_always_float_stay_float() -> None:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    model = model_of(nodes, {"y": TensorProto.FLOAT}, {"scales": np.float32([1, 1, 2, 2])}, (1, 2, 2))
    made = to_half(model)
    onnx.checker.check_model(made, full_check=True)
    assert operators(made) == ["Cast", "Resize", "Cast"]
    assert {tensor.name: tensor.data_type for tensor in made.graph.initializer} == {"scales": TensorProto.FLOAT}


def test_sizes_are_computed_in_integers_from_either_precision() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Shape", ["positive"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["zeros"], value=numpy_helper.from_array(np.float32([0.5]))),
        helper.make_node("Add", ["positive", "zeros"], ["y"]),
    ]
    made = to_half(model_of(nodes, {"y": TensorProto.FLOAT}))
    onnx.checker.check_model(made, full_check=True)
    inputs = np.float32([[1, 2, 3, 4]])
    assert np.array_equal(run(open_session(made, "disabled"), [inputs])[0], inputs + np.float32(0.5))


def test_a_dtype_that_an_attribute_sets_is_left_alone() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("EyeLike", ["positive"], ["ones"], dtype=TensorProto.FLOAT),
        helper.make_node("Add", ["positive", "ones"], ["y"]),
    ]
    made = to_half(model_of(nodes, {"y": TensorProto.FLOAT}, shape=(2,)))
    onnx.checker.check_model(made, full_check=True)
    inputs = np.float32([[1, 2], [3, 4]])
    expected = inputs + np.eye(2, dtype=np.float32)
    assert np.array_equal(run(open_session(rounding_graph(made), "disabled"), [inputs])[0], expected)


@pytest.mark.parametrize(
    ("specification", "dtype"),
    [
        (FLOAT32, np.float32),
        (FLOAT16, np.float16),
        (affine_specification(CLIP, 8), np.uint8),
        (affine_specification(CLIP, 2, "bytes"), np.uint8),
        (affine_specification(CLIP, 4, "words"), np.int32),
    ],
    ids=["float32", "float16", "8-bit", "2-bit bytes", "4-bit words"],
)
def test_every_encoding_at_the_cut_stays_what_it_is(specification: EncodeSpecification, dtype: type) -> None:
    halves = encode_halves(cut(CHAIN, ["conv2_out_relu"]), [specification])
    codec = FeatureCodec((feature_tensor(specification, "conv2_out_relu", (8, 8, 8)),))
    inputs, head_outputs, feature = images(4), {}, {}
    for name, lower in (("float32", lambda model: model), ("half", to_half)):
        head, tail = (lower(subgraph) for subgraph in (halves.head, halves.tail))
        for made, subgraph in ((head, halves.head), (tail, halves.tail)):
            onnx.checker.check_model(made, full_check=True)
            assert (made.graph.input, made.graph.output) == (subgraph.graph.input, subgraph.graph.output)
        head_outputs[name] = run(open_session(rounding_graph(head), "disabled"), [inputs])[0]
        assert head_outputs[name].dtype == dtype
        tail_inputs = codec.tail_inputs(codec.symbols([head_outputs[name]]))
        feature[name] = run(open_session(rounding_graph(tail), "disabled"), tail_inputs)[0]
    assert 0 < output_error(feature["float32"], feature["half"]) < 0.02
    if specification.kind == "affine":
        one, other = (codec.symbols([head_outputs[name]])[0].astype(int) for name in ("float32", "half"))
        assert np.abs(one - other).max() <= 1
        assert (one != other).mean() < 0.05


def test_a_body_reads_the_float_form_of_what_is_half_outside() -> None:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None, None])
    branch = helper.make_graph([helper.make_node("Neg", ["positive"], ["inner"])], "branch", [], [value])
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("Abs", ["chosen"], ["y"]),
    ]
    model = model_of(nodes, {"y": TensorProto.FLOAT}, {"condition": np.array(True)})
    made = to_half(model)
    onnx.checker.check_model(made, full_check=True)
    inputs = np.float32([[1, -2, 3, 0.1]])
    expected = np.maximum(inputs, 0).astype(np.float16).astype(np.float32)
    assert np.array_equal(run(open_session(rounding_graph(made), "disabled"), [inputs])[0], expected)


def test_constants_that_half_cannot_hold_are_named() -> None:
    constants = {"huge": np.float32([7e4]), "tiny": np.float32([1e-12]), "fine": np.float32([1e-12, 1])}
    nodes = [
        helper.make_node("Mul", ["x", "huge"], ["a"], name="/one/Mul"),
        helper.make_node("Add", ["a", "tiny"], ["b"], name="/two/Add"),
        helper.make_node("Mul", ["b", "fine"], ["y"], name="/three/Mul"),
    ]
    found = dict(constants_out_of_range(model_of(nodes, {"y": TensorProto.FLOAT}, constants, (2,))))
    assert set(found) == {0, 1}
    assert "reaches 7e+04" in found[0]
    assert "would be 0" in found[1]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_families_stay_close_and_well_typed(family) -> None:
    model = exported(family.name)
    made = to_half(model)
    onnx.checker.check_model(made, full_check=True)
    feed = {f"images_{index}" if index else "images": value.numpy() for index, value in enumerate(family.inputs(4))}
    expected = open_session(model, "disabled").run(None, feed)
    found = open_session(rounding_graph(made), "disabled").run(None, feed)
    for one, other in zip(expected, found, strict=True):
        assert 0 < output_error(one, other) < 0.15
    weighted = [number for number, node in enumerate(model.graph.node) if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert set(weighted) <= set(half_ends(model))
