"""Cuts of graphs that are more than a chain: several inputs and outputs, bodies, functions, other types, constants."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from composed import assert_exact, composed, outputs_of
from drawn_graphs import WIDTH, drawn_models
from family_graphs import exported
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporter.cutting.cut import cut
from exporter.layers.cut_points import cut_tensors_after, multi_tensor_cuts, single_tensor_cuts
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.nodes import normalise
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import CoopexportError

OPSETS = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
X = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)


def model_of(nodes, outputs=("y",), inputs=("x",), element_type=TensorProto.FLOAT, functions=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, element_type, ["batch", 4]) for name in inputs],
        [helper.make_tensor_value_info(name, element_type, ["batch", 4]) for name in outputs],
        [numpy_helper.from_array(np.float32([1, 2, 3, 4]), "w"), numpy_helper.from_array(np.array(True), "yes")],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=9, functions=list(functions))


@settings(max_examples=150)
@given(drawn_models(), st.data())
def test_every_cut_of_a_drawn_graph_is_exact(model: onnx.ModelProto, data) -> None:
    index, types = index_graph(model), tensor_types(model)
    generator = np.random.default_rng(1)
    feed = {name: generator.standard_normal((2, WIDTH), dtype=np.float32) for name in index.inputs}
    cuts = [(name,) for name in single_tensor_cuts(index)] + list(multi_tensor_cuts(index, 4))
    try:
        tensor = data.draw(st.sampled_from(sorted(index.makers)))
        cuts.append(tuple(name for name, _ in cut_tensors_after(index, tensor, types).tensors))
    except CoopexportError:
        pass
    for tensors in cuts:
        assert_exact(model, cut(index, tensors, types), feed)


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def test_both_halves_say_what_the_whole_says_and_what_is_said_of_their_tensors() -> None:
    model = parsed("""net (float[n, 4] x) => (float[n, 4] y)
        <float s1 = {0.5}, float s2 = {0.25}, float[4] w = {1, 2, 3, 4}> {
        a = Add (x, w) b = Relu (a) c = Mul (b, w) y = Neg (c) }""")
    model.producer_name, model.producer_version, model.domain = "pytorch", "2.9", "org.example"
    model.model_version, model.doc_string, model.graph.doc_string = 7, "a model", "a graph"
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[16, 16]"})
    model.graph.metadata_props.add(key="task", value="detect")
    model.graph.input[0].doc_string, model.graph.output[0].doc_string = "an image", "scores"
    model.graph.node[0].doc_string = "a sum"
    model.graph.node[3].metadata_props.add(key="namespace", value="net.head")
    for name in "abc":
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4], doc_string=f"tensor {name}")
        model.graph.value_info.append(value)
    for name, scale in (("a", "s1"), ("c", "s2")):
        annotation = model.graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    halves = cut(model, ["b"])
    for part in (halves.head, halves.tail):
        onnx.checker.check_model(part, full_check=True)
        said = ("producer_name", "producer_version", "domain", "model_version", "doc_string", "metadata_props")
        assert [getattr(part, name) for name in said] == [getattr(model, name) for name in said]
        assert (part.graph.doc_string, part.graph.metadata_props) == ("a graph", model.graph.metadata_props)
    head, tail = halves.head.graph, halves.tail.graph
    assert (head.input[0].doc_string, tail.output[0].doc_string) == ("an image", "scores")
    assert [head.output[0].doc_string, tail.input[0].doc_string] == ["tensor b", "tensor b"]
    assert (head.node[0].doc_string, tail.node[1].metadata_props[0].value) == ("a sum", "net.head")
    assert [[value.name for value in graph.value_info] for graph in (head, tail)] == [["a"], ["c"]]
    assert [[item.tensor_name for item in graph.quantization_annotation] for graph in (head, tail)] == [["a"], ["c"]]
    assert [{item.name for item in graph.initializer} for graph in (head, tail)] == [{"w", "s1"}, {"w", "s2"}]
    assert_exact(model, halves, {"x": X})


def test_inputs_with_a_default_value_stay_inputs_where_they_are_read() -> None:
    model = parsed("""net (float[n, 4] x, float[4] low, float[4] high) => (float[n, 4] y)
        <float[4] low = {0, 0, 0, 0}, float[4] high = {1, 1, 1, 1}, float[4] w = {1, 2, 3, 4}> {
        a = Add (x, low) b = Mul (a, w) c = Mul (b, high) y = Sub (c, low) }""")
    before = model.graph.input[1:]
    normalise(model)
    halves = cut(model, ["b"])
    assert [value.name for value in halves.head.graph.input] == ["x", "low"]
    assert [value.name for value in halves.tail.graph.input] == ["b", "low", "high"]
    assert halves.tail.graph.input[1:] == before
    assert_exact(model, halves, {"x": X})
    for part in (halves.head, halves.tail):
        onnx.checker.check_model(part, full_check=True)
    others = {"low": np.float32([1, 0, 2, 0]), "high": np.float32([3, 1, 4, 1])}
    (expected,) = open_session(model, "disabled").run(None, {"x": X, **others})
    (feature,) = open_session(halves.head, "disabled").run(None, {"x": X, "low": others["low"]})
    (found,) = open_session(halves.tail, "disabled").run(None, {"b": feature, **others})
    assert found.tobytes() == expected.tobytes()
    assert not np.array_equal(found, open_session(model, "disabled").run(None, {"x": X})[0])


def test_a_tensor_that_has_the_name_of_an_input_that_crosses_keeps_it() -> None:
    model = parsed("""net (float[n, 4] x, float[n, 4] x2) => (float[n, 4] y) {
        kept = Neg (x2) a = Relu (x) s = Add (a, kept) y = Mul (s, x2) }""")
    for node in model.graph.node:  # the text form knows no names with a slash
        for names in (node.input, node.output):
            names[:] = ["x2/crossing" if name == "kept" else name for name in names]
    halves = cut(model, ["x2", "x2/crossing", "a"])
    assert [value.name for value in halves.tail.graph.input] == ["x2/crossing_", "x2/crossing", "a"]
    assert_exact(model, halves, {"x": X, "x2": X[::-1].copy()})


def test_an_input_that_crosses_goes_through_the_head() -> None:
    model = model_of(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["a", "x2"], ["y"])], inputs=("x", "x2")
    )
    halves = cut(model, ["a", "x2"])
    assert [value.name for value in halves.head.graph.output] == ["x2/crossing", "a"]
    assert [value.name for value in halves.tail.graph.input] == ["x2/crossing", "a"]
    assert_exact(model, halves, {"x": X, "x2": X[::-1].copy()})
    with pytest.raises(CoopexportError, match=r"2 tensors cross there \(x2 \(16 bytes\), a \(16 bytes\), 32 bytes"):
        cut(model, ["a"])


def test_exits_come_out_of_the_head_and_do_not_cross() -> None:
    model = exported("branchynet_small")
    index, types = index_graph(model), tensor_types(model)
    feed = {"images": np.random.default_rng(3).standard_normal((3, 3, 32, 32), dtype=np.float32)}
    counts = set()
    for tensor in single_tensor_cuts(index):
        halves = cut(index, [tensor], types)
        assert_exact(model, halves, feed)
        exits = [value.name for value in halves.head.graph.output][1:]
        assert sorted([*exits, *(value.name for value in halves.tail.graph.output)]) == sorted(index.outputs)
        counts.add(len(exits))
    assert counts == {0, 1, 2}


def test_an_output_that_is_read_on_crosses_once() -> None:
    model = model_of(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sin", ["a"], ["y"])], outputs=("y", "a")
    )
    halves = cut(model, ["a"])
    assert [value.name for value in halves.head.graph.output] == ["a"]
    assert [value.name for value in halves.tail.graph.output] == ["y"]
    assert_exact(model, halves, {"x": X})


def body(operator: str, reads: list[str], made: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(operator, reads, [made])], "body", [], [helper.make_tensor_value_info(made, 1, None)]
    )


def test_a_body_reads_what_crosses() -> None:
    model = model_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Exp", ["a"], ["b"]),
            helper.make_node(
                "If", ["yes"], ["c"], then_branch=body("Add", ["a", "w"], "r"), else_branch=body("Neg", ["b"], "s")
            ),
            helper.make_node("Add", ["c", "b"], ["y"]),
        ]
    )
    index = index_graph(model)
    assert single_tensor_cuts(index) == ("a",)
    assert multi_tensor_cuts(index, 2) == (("a", "b"), ("b", "c"))
    for tensors in (["a"], ["a", "b"], ["b", "c"]):
        assert_exact(model, cut(index, tensors, tensor_types(model)), {"x": X})


def test_a_loop_reads_outer_tensors() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["carried", "a"], ["sum"]), helper.make_node("Identity", ["go"], ["go_on"])],
        "loop",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("sum", 1, None)],
    )
    model = model_of(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Sin", ["a"], ["b"]),
            helper.make_node("Constant", [], ["three"], value_int=3),
            helper.make_node("Loop", ["three", "yes", "b"], ["y"], body=inner),
        ]
    )
    index = index_graph(model)
    assert index.reads[3] == {"a", "b"}
    for tensors in (["a"], ["a", "b"]):
        assert_exact(model, cut(index, tensors, tensor_types(model)), {"x": X})


def test_local_functions_go_where_they_are_called() -> None:
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], OPSETS)
    calls = [helper.make_node("Inner", ["a"], ["b"], domain="own")]
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, OPSETS)
    model = model_of(
        [
            helper.make_node("Inner", ["x"], ["a"], domain="own"),
            helper.make_node("Sin", ["a"], ["b"]),
            helper.make_node("Outer", ["b"], ["y"], domain="own"),
        ],
        functions=(inner, outer),
    )
    halves = cut(model, ["b"])
    assert [item.name for item in halves.head.functions] == ["Inner"]
    assert [item.name for item in halves.tail.functions] == ["Inner", "Outer"]
    assert_exact(model, halves, {"x": X})


def test_boundary_tensors_of_other_types_cross_as_they_are() -> None:
    model = model_of(
        [
            helper.make_node("Sin", ["x"], ["a"]),
            helper.make_node("Shape", ["a"], ["size"]),
            helper.make_node("Greater", ["a", "x"], ["larger"]),
            helper.make_node("Neg", ["a"], ["n"]),
            helper.make_node("Where", ["larger", "n", "a"], ["picked"]),
            helper.make_node("Reshape", ["picked", "size"], ["y"]),
        ],
        element_type=TensorProto.DOUBLE,
    )
    index, types = index_graph(model), tensor_types(model)
    feed = {"x": X.astype(np.float64)}
    assert_exact(model, cut(index, ["picked", "size"], types), feed)
    halves = cut(index, ["a", "size", "larger"], types)
    head_outputs = {value.name: value.type.tensor_type for value in halves.head.graph.output}
    assert {name: item.elem_type for name, item in head_outputs.items()} == {
        "a": TensorProto.DOUBLE, "size": TensorProto.INT64, "larger": TensorProto.BOOL,
    }  # fmt: skip
    assert [d.dim_param or d.dim_value for d in head_outputs["a"].shape.dim] == ["batch", 4]
    assert [d.dim_value for d in head_outputs["size"].shape.dim] == [2]
    assert_exact(model, halves, feed)


def test_a_tensor_without_a_fixed_size_is_refused_by_name() -> None:
    model = model_of(
        [
            helper.make_node("NonZero", ["x"], ["where"]),
            helper.make_node("Shape", ["where"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["y"]),
        ]
    )
    with pytest.raises(CoopexportError) as caught:
        cut(model, ["where", "x"])
    assert str(caught.value) == (
        "cannot cut at where, x: where would cross, whose size may depend on the data (through NonZero 'where'); only "
        "tensors of a fixed size can cross: cut before it"
    )


def test_what_is_no_tensor_cannot_cross() -> None:
    model = model_of(
        [
            helper.make_node("SplitToSequence", ["x"], ["parts"], axis=1),
            helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=1),
        ]
    )
    with pytest.raises(CoopexportError, match=r"cannot cut at parts: parts would cross; only tensors can that hold"):
        cut(model, ["parts"])


def test_what_nothing_reads_behind_the_cut_is_refused() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sin", ["a"], ["b"]),
                      helper.make_node("Neg", ["b"], ["y"])])  # fmt: skip
    with pytest.raises(CoopexportError, match="cannot cut at a, b: nothing behind the cut reads a"):
        cut(model, ["a", "b"])


def test_several_tensors_that_are_not_enough_name_what_else_crosses() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sin", ["a"], ["b"]),
             helper.make_node("Neg", ["b"], ["c"]), helper.make_node("Sum", ["a", "b", "c"], ["y"])]  # fmt: skip
    with pytest.raises(
        CoopexportError, match=r"cannot cut at b, c: 3 tensors cross there \(a \(16 bytes\), b .*; the nearest clean"
    ):
        cut(model_of(nodes), ["b", "c"])


def test_constants_are_made_anew_in_each_half() -> None:
    model = model_of(
        [
            helper.make_node("Neg", ["w"], ["computed"]),
            helper.make_node("Add", ["x", "computed"], ["a"]),
            helper.make_node("Sin", ["a"], ["b"]),
            helper.make_node("Mul", ["b", "computed"], ["y"]),
        ]
    )
    halves = cut(model, ["b"])
    assert [node.op_type for node in halves.head.graph.node] == ["Neg", "Add", "Sin"]
    assert [node.op_type for node in halves.tail.graph.node] == ["Neg", "Mul"]
    assert_exact(model, halves, {"x": X})


def test_sparse_weights_go_along() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([2.0, 3.0]), "sparse"), numpy_helper.from_array(np.int64([0, 5])), [4, 4]
    )
    model = model_of(
        [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("MatMul", ["a", "sparse"], ["b"]),
         helper.make_node("Neg", ["b"], ["y"])]
    )  # fmt: skip
    model.graph.sparse_initializer.append(sparse)
    for tensor in ("a", "b"):
        halves = cut(model, [tensor])
        made = composed(halves, {"x": X})
        assert made["y"].tobytes() == outputs_of(model, {"x": X})["y"].tobytes()
