"""Facts about graphs: constants, shared weights, shapes that inference does not find, multiply-accumulates."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import images
from torch import nn

from exporter.layers.export import export
from exporter.onnx_graphs.nodes import (
    consumers,
    copy_without_weights,
    functions_used,
    macs_of,
    network_inputs,
    normalise,
    tensors_read,
    weight_shapes,
)
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.tensor_types import tensor_types


def model_of(nodes, initialisers=(), input_shape=(4,), outputs=("y",), opset: int = 13) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *input_shape])],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initialisers],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_normalise_changes_nothing_that_is_computed() -> None:
    weight = np.arange(4, dtype=np.float32)
    model = model_of(
        [
            helper.make_node("Identity", ["w"], ["w2"]),
            helper.make_node("Identity", ["w2"], ["w3"]),
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1, 2, 3, 4]))),
            helper.make_node("Constant", [], ["half"], value_float=0.5),
            helper.make_node("Constant", [], ["axis"], value_ints=[1]),
            helper.make_node("Add", ["x", "w3"], ["a"]),
            helper.make_node("Mul", ["a", "c"], ["b"]),
            helper.make_node("Mul", ["b", "half"], ["d"]),
            helper.make_node("ReduceSum", ["d", "axis"], ["e"]),
            helper.make_node("Identity", ["e"], ["y"]),
            helper.make_node("Identity", ["w"], ["z"]),
        ],
        [("w", weight)],
        outputs=("y", "z"),
    )
    inputs = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    before = [open_session(model, "disabled").run(None, {"x": inputs})]
    normalise(model)
    operators = [node.op_type for node in model.graph.node]
    assert "Constant" not in operators
    assert operators.count("Identity") == 2  # those that make outputs
    after = [open_session(model, "disabled").run(None, {"x": inputs})]
    for one, other in zip(before[0], after[0], strict=True):
        assert np.array_equal(one, other)
    assert np.allclose(after[0][0], ((inputs + weight) * [1, 2, 3, 4] * 0.5).sum(1, keepdims=True))


def if_model() -> onnx.ModelProto:
    """A graph whose branches read an outer tensor and hold an initialiser of their own."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["a", "own"], ["r"])], "then", [], [helper.make_tensor_value_info("r", 1, None)],
        [numpy_helper.from_array(np.float32([1.0]), "own")],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["r2"])], "else", [], [helper.make_tensor_value_info("r2", 1, None)]
    )
    return model_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Exp", ["a"], ["b"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other),
        ],
        [("yes", np.array(True))],
    )


def test_reads_of_inner_graphs_count() -> None:
    graph = if_model().graph
    assert tensors_read(graph.node) == {"x", "a", "b", "yes"}
    assert consumers(graph)["a"] == [1, 2]


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), (4, 8, 8), 6 * 8 * 8 * 4 * 9),
        (nn.Conv2d(4, 6, (3, 1), stride=2, groups=2), (4, 8, 8), 6 * 3 * 4 * 2 * 3),
        (nn.Conv1d(4, 6, 5), (4, 20), 6 * 16 * 4 * 5),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5), 4 * 25 * 6 * 9),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5), 4 * 25 * 3 * 9),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (3, 7), 3 * 35),
    ],
)
def test_macs_of_each_kind(module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    model = export(nn.Sequential(module).eval(), images(shape)).model
    weights = weight_shapes(model.graph)
    shapes = {name: item.shape for name, item in tensor_types(model).items()}
    assert sum(macs_of(node, weights, shapes) for node in model.graph.node) == expected


def test_run_passes_samples_in_batches_and_in_order() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    inputs = np.arange(4 * 150, dtype=np.float32).reshape(150, 4) - 300
    assert np.array_equal(run(open_session(model, "disabled"), [inputs])[0], np.maximum(inputs, 0))


def test_normalise_renames_inside_bodies_and_keeps_constants_that_are_outputs() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "w2"], ["r"])], "body", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Sub", ["a", "w2"], ["s"])], "other", [], [helper.make_tensor_value_info("s", 1, None)]
    )
    model = model_of(
        [
            helper.make_node("Identity", ["w"], ["w2"]),
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=body, else_branch=other),
            helper.make_node("Constant", [], ["z"], value_floats=[1.0, 2.0]),
        ],
        [("w", np.float32([1, 2, 3, 4])), ("yes", np.array(True))],
        outputs=("y", "z"),
    )
    inputs = {"x": np.float32([[1, -2, 3, -4]])}
    before = open_session(model, "disabled").run(None, inputs)
    normalise(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "If", "Constant"]
    after = open_session(model, "disabled").run(None, inputs)
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


def test_initialisers_that_are_listed_as_inputs_are_no_inputs() -> None:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], [("w", np.float32([1, 2, 3, 4]))])
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [4]))
    model.ir_version = 3
    normalise(model)
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.ir_version == 4  # the first that has initialisers which are not inputs
    assert open_session(model, "disabled").run(None, {"x": np.zeros((1, 4), np.float32)})[0].tolist() == [[1, 2, 3, 4]]


def test_an_input_with_a_default_value_stays_one() -> None:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], [("w", np.float32([1, 2, 3, 4]))])
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [4]))
    normalise(model)
    assert [value.name for value in model.graph.input] == ["x", "w"]
    assert [value.name for value in network_inputs(model)] == ["x"]
    feed = {"x": np.zeros((1, 4), np.float32), "w": np.float32([5, 6, 7, 8])}
    assert open_session(model, "disabled").run(None, feed)[0].tolist() == [[5, 6, 7, 8]]


def test_copy_without_weights_keeps_small_constants_only() -> None:
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "sizes"], ["y"])],
        [("w", np.zeros((4, 4000), np.float32)), ("sizes", np.int64([0, 40, 100]))],
    )
    skeleton = copy_without_weights(model)
    assert skeleton.ByteSize() < 500 < 64000 < model.ByteSize()
    types = {name: item.shape for name, item in tensor_types(model).items()}
    assert types == {"x": (4,), "h": (4000,), "y": (40, 100)}


def test_copy_without_weights_keeps_all_that_is_said_about_the_model() -> None:
    weight = numpy_helper.from_array(np.zeros((4, 4000), np.float32), "w")
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"], doc_string="a product")])
    model.graph.initializer.append(weight)
    model.graph.initializer[0].doc_string = "weights"
    model.graph.initializer[0].metadata_props.add(key="unit", value="volt")
    say_everything(model)
    skeleton = copy_without_weights(model)
    (left,) = skeleton.graph.initializer
    assert (left.doc_string, left.metadata_props[0].value, list(left.dims)) == ("weights", "volt", [4, 4000])
    assert not left.raw_data
    left.CopyFrom(model.graph.initializer[0])
    assert skeleton == model


def say_everything(model: onnx.ModelProto) -> None:
    """Fill every field of a model and its graph that says something about it."""
    model.producer_name, model.producer_version, model.domain = "pytorch", "2.9", "org.example"
    model.model_version, model.doc_string, model.graph.doc_string = 7, "a model", "a graph"
    helper.set_model_props(model, {"names": "{0: 'cat'}", "stride": "32"})
    model.graph.metadata_props.add(key="task", value="detect")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 4]))
    annotation = model.graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    told = {field.name for field, _ in (*model.ListFields(), *model.graph.ListFields())}
    known = {field.name for field in (*model.DESCRIPTOR.fields, *model.graph.DESCRIPTOR.fields)}
    assert known - told <= {"training_info", "functions", "configuration", "sparse_initializer", "initializer"}


def test_functions_that_functions_call_are_found() -> None:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets)
    outer = helper.make_function(
        "own", "Outer", ["a"], ["b"], [helper.make_node("Inner", ["a"], ["b"], domain="own")], opsets
    )
    unused = helper.make_function("own", "Unused", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])], opsets)
    model = model_of([helper.make_node("Outer", ["x"], ["y"], domain="own")])
    model.functions.extend([inner, outer, unused])
    assert [item.name for item in functions_used(model, model.graph.node)] == ["Inner", "Outer"]
    assert functions_used(model, []) == []
