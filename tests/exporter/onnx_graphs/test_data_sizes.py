"""Which sizes depend on the data, judged by running: what is taken as fixed is fixed, whatever comes in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.cutting.cut import cut
from exporter.onnx_graphs import data_sizes
from exporter.onnx_graphs.data_sizes import sizes_from_data
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import CoopexportError

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "own" : 1]>\n'
# What each graph begins with: `n`, a number that the data say, as a scalar, as [1] and as [2].
COUNT = """
    largest = ReduceMax <keepdims = 0> (x)
    n = Cast <to = 7> (largest)
    axis = Constant <value_ints = [0]> ()
    one = Constant <value_int = 1> ()
    n1 = Unsqueeze (n, axis)
    n2 = Concat <axis = 0> (n1, n1)
"""
# Three inputs whose largest values are 1, 2 and 4: with sizes taken from them, the outputs differ.
FEEDS = [np.float32([[0, 0, 0, 1], [0, 1, 1, 1]]), np.float32([[2, 0, 1, 2], [0, 0, 0, 0]]), np.float32([[4] * 4] * 2)]
APART = [float(number) for place in range(8) for number in (place, 0, place + 1, 1)]


def graph_of(body: str, functions: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} net (float[2, 4] x) => (y) {{ {COUNT} {body} }} {functions}")


def sizes_of(model: onnx.ModelProto, names: list[str]) -> dict[str, set[tuple[int, ...]]]:
    """Return the sizes that tensors have when the graph runs on all inputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(watched, "disabled")
    runs = [session.run(None, {"x": feed}) for feed in FEEDS]
    return {name: {values.shape for values in row} for name, row in zip(names, zip(*runs, strict=True), strict=True)}


FROM_DATA = {
    "NonZero": "y = NonZero (x)",
    "Unique": "y = Unique (x)",
    "Compress": "f = Cast <to = 9> (x) y = Compress (x, f)",
    "Range": "zero = Constant <value_int = 0> () y = Range (zero, n, one)",
    "Slice": "y = Slice (x, axis, n1, axis)",
    "TopK": "y, places = TopK (x, n1)",
    "ConstantOfShape": "y = ConstantOfShape (n2)",
    "Tile": "y = Tile (x, n2)",
    "Pad": "zeros = Sub (n2, n2) pads = Concat <axis = 0> (zeros, n2) y = Pad (x, pads)",
    "Resize": "y = Resize (x, , , n2)",
    "OneHot": "ends = Constant <value_floats = [0.0, 1.0]> () k = Cast <to = 7> (x) y = OneHot (k, n1, ends)",
    "Expand": "two = Constant <value_ints = [1, 1]> () f = ReduceSum (x) y = Expand (f, n2)",
    "Where": """two = Constant <value_int = 2> () four = Constant <value_int = 4> () c = Greater (n, one)
        w = Where (c, two, four) w1 = Unsqueeze (w, axis) rest = Constant <value_ints = [-1]> ()
        s = Concat <axis = 0> (w1, rest) y = Reshape (x, s)""",
    "Shape of what is counted": "z = NonZero (x) s = Shape (z) y = ConstantOfShape (s)",
    "If": """two = Constant <value_int = 2> () c = Greater (n, two)
        y = If (c) <then_branch = a () => (p) { p = Concat <axis = 0> (x, x) },
            else_branch = b () => (q) { q = Relu (x) }>""",
    "Loop by its trips": """yes = Cast <to = 9> (one)
        y = Loop (n, yes, x) <body =
            b (int64 i, bool go, v) => (go_on, w) { go_on = Identity (go) w = Concat <axis = 0> (v, x) }>""",
    "Loop by its condition": """yes = Cast <to = 9> (one) four = Constant <value_int = 4> ()
        y = Loop (four, yes, x) <body =
            b (int64 i, bool go, v) => (go_on, w) { go_on = Less (i, n) w = Concat <axis = 0> (v, x) }>""",
    "Loop that collects": """yes = Cast <to = 9> (one)
        last, y = Loop (n, yes, x) <body =
            b (int64 i, bool go, v) => (go_on, w, out) { go_on = Identity (go) w = Relu (v) out = Identity (v) }>""",
    "SequenceAt": """two = Constant <value_int = 2> () c = Greater (n, two) k = Cast <to = 7> (c)
        d = Concat <axis = 0> (x, x) s = SequenceConstruct (x, d) y = SequenceAt (s, k)""",
    "Unique of com.microsoft": """flat = Constant <value_ints = [-1]> () f = Reshape (x, flat)
        y, places, counts = com.microsoft.Unique (f)""",
    "NonMaxSuppression": f"""corners = Constant <value_floats = {APART}> () sizes = Constant <value_ints = [1, 8, 4]> ()
        boxes = Reshape (corners, sizes) row = Constant <value_ints = [1, 1, 8]> () scores = Reshape (x, row)
        ten = Constant <value_ints = [10]> () half = Constant <value_floats = [0.5]> ()
        y = NonMaxSuppression (boxes, scores, ten, half, half)""",
}
FIXED = {
    "no data in it": "s = Shape (x) m = Mul (s, s) zeros = ConstantOfShape (s) y = Add (x, zeros)",
    "a Loop that runs a fixed number of times": """yes = Cast <to = 9> (one)
        y = Loop (one, yes, x) <body =
            b (int64 i, bool go, v) => (go_on, w) { go_on = Identity (go) w = Concat <axis = 0> (v, v) }>""",
    "a branch that constants choose": """yes = Cast <to = 9> (one)
        y = If (yes) <then_branch = a () => (p) { p = com.microsoft.Gelu (x) },
            else_branch = b () => (q) { q = Relu (x) }>""",
    "an operator that inference does not know": "y = com.microsoft.Gelu (x)",
    "counting among constants": "k = Constant <value_floats = [0.0, 1.0]> () z = NonZero (k) y = Cast <to = 1> (z)",
    "numbers of the data that are not sizes": "c = Greater (n, one) y = Where (c, x, largest)",
}


@pytest.mark.parametrize("name", FROM_DATA)
def test_a_size_that_the_data_change_is_not_fixed(name: str) -> None:
    model = graph_of(FROM_DATA[name])
    assert len(sizes_of(model, ["y"])["y"]) > 1  # it does change
    causes = sizes_from_data(model, set())
    assert name.split()[0] in causes["y"] or name in ("Where", "Shape of what is counted")
    assert "y" not in tensor_types(model)


@pytest.mark.parametrize("name", FIXED)
def test_a_size_that_no_data_change_is_fixed(name: str) -> None:
    model = graph_of(FIXED[name])
    (size,) = sizes_of(model, ["y"])["y"]
    item = tensor_types(model)["y"]
    assert ((2, *item.shape) if item.has_batch else item.shape) == size


def test_functions_are_looked_into() -> None:
    functions = """
        <domain: "own", opset_import: ["" : 17]> Count (a) => (b) { b = NonZero (a) }
        <domain: "own", opset_import: ["" : 17]> Twice (a) => (b) { b = Add (a, a) }
    """
    model = graph_of("z = own.Count (x) f = Cast <to = 1> (z) y = own.Twice (f)", functions)
    assert sizes_from_data(model, set()).keys() == {"z", "f", "y"}


def test_what_is_of_known_size_again_is_fixed_and_what_follows_too() -> None:
    model = graph_of("z = NonZero (x) f = Cast <to = 1> (z) m = ReduceMax <keepdims = 0> (f) y = Add (m, x)")
    assert sizes_from_data(model, {"m", "y"}).keys() == {"z", "f"}
    assert {"m", "y"} <= tensor_types(model).keys()
    assert not {"z", "f"} & tensor_types(model).keys()


def test_a_cut_through_such_a_tensor_names_what_makes_it_and_elsewhere_it_can_be_cut() -> None:
    model = graph_of("r = Relu (x) z = NonZero (r) f = Cast <to = 1> (z) y = Relu (f)")
    with pytest.raises(
        CoopexportError, match=r"f would cross, whose size may depend on the data \(through NonZero 'z'\)"
    ):
        cut(model, ["f"])
    halves = cut(model, ["r"])
    for feed in FEEDS:
        (feature,) = open_session(halves.head, "disabled").run(None, {"x": feed})
        (found,) = open_session(halves.tail, "disabled").run(None, {"r": feature})
        (expected,) = open_session(model, "disabled").run(None, {"x": feed})
        assert found.shape == expected.shape != (2, 0)
        assert found.tobytes() == expected.tobytes()


def test_an_output_that_is_left_out_says_nothing_of_an_input_that_is() -> None:
    """Both have the empty name."""
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["", "places"]),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4]), helper.make_empty_tensor_value_info("y")]
    constants = [
        helper.make_tensor("k", TensorProto.INT64, [1], [2]),
        helper.make_tensor("sizes", TensorProto.INT64, [2], [4, 4]),
    ]
    graph = helper.make_graph(nodes, "left out", values[:1], values[1:], constants)
    assert sizes_from_data(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), set()) == {}


def test_every_operator_that_takes_integers_is_known() -> None:
    """An operator that onnx adds must be looked at: does an input of integers say how large the output is?"""
    takes_integers = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == ""
        for value in schema.inputs
        if value.types and all("int" in kind or "bool" in kind for kind in value.types)
    }
    says_no_size = {
        "And", "Attention", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "ConvInteger", "CumProd",
        "CumSum", "Dropout", "GRU", "Gather", "GatherElements", "GatherND", "LSTM", "MatMulInteger",
        "NegativeLogLikelihoodLoss", "Not", "Or", "QLinearConv", "RNN", "ReverseSequence", "RoiAlign",
        "RotaryEmbedding", "Scatter", "ScatterElements", "ScatterND", "SoftmaxCrossEntropyLoss", "TensorScatter",
        "Trilu", "Where", "Xor",
    }  # fmt: skip
    assert takes_integers - says_no_size <= data_sizes._SIZE_INPUTS.keys() | data_sizes._COUNTING | {"If", "Loop"}
