"""The cuts of any graph, against their definition: without the tensors that cross, nothing arrives behind them."""

from __future__ import annotations

import onnx
import pytest
from drawn_graphs import drawn_models, reached
from family_graphs import exported
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from exporter.layers.cut_points import (
    CutTensors,
    cut_tensors_after,
    describe_cut_tensors,
    multi_tensor_cuts,
    plan_cut,
    single_tensor_cuts,
)
from exporter.onnx_graphs.index import GraphIndex, index_graph, nodes_in
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from jetson.errors import CoopexportError


def names(values) -> set[str]:
    return {value.name for value in values}


def needed_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that an output depends on, leaving out those that compute from constants alone."""
    wanted, kept = names(model.graph.output), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output) and node.name != "constant":
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


@settings(max_examples=250)
@given(drawn_models())
def test_single_tensor_cuts_are_the_tensors_without_which_no_output_behind_them_is_reached(model) -> None:
    inputs, outputs = names(model.graph.input), names(model.graph.output)
    expected = set()
    for node in model.graph.node:
        tensor = node.output[0]
        behind = (reached(model, {tensor}, set()) & outputs) - {tensor}
        if tensor != "computed" and behind and not behind & reached(model, inputs, {tensor}):
            expected.add(tensor)
    found = single_tensor_cuts(index_graph(model))
    assert set(found) == expected
    order = [node.output[0] for node in model.graph.node]
    assert list(found) == sorted(found, key=order.index)


@given(drawn_models(most_outputs=1), st.integers(2, 4))
def test_multi_tensor_cuts_are_what_lives_between_two_nodes(model, maximum: int) -> None:
    nodes, inputs = needed_nodes(model), names(model.graph.input)
    expected = set()
    for place in range(1, len(nodes)):
        made = inputs | {name for node in nodes[:place] for name in node.output}
        live = made & {name for node in nodes[place:] for name in node.input}
        if 2 <= len(live) <= maximum and not live <= inputs:
            expected.add(frozenset(live))
    found = multi_tensor_cuts(index_graph(model), maximum)
    assert {frozenset(item) for item in found} == expected
    assert len(found) == len(expected)


@given(drawn_models(), st.data())
def test_what_crosses_behind_a_tensor_separates_it_and_is_the_cheapest_way(model, data) -> None:
    index = index_graph(model)
    tensor = data.draw(st.sampled_from([node.output[0] for node in needed_nodes(model)]))
    types = {name: TensorType((data.draw(st.integers(1, 50)),)) for name in [*index.inputs, *index.makers]}
    try:
        cut_tensors = cut_tensors_after(index, tensor, types)
    except CoopexportError:
        # Only where the tensor is an output, or only outputs that the head makes need it.
        plan_outputs = names(model.graph.output)
        behind = {name for node in model.graph.node if tensor in node.input for name in node.output}
        assert tensor in plan_outputs or not behind
        return
    crossed = {name for name, _ in cut_tensors.tensors}
    plan = plan_cut(index, [name for name, _ in cut_tensors.tensors])
    assert set(plan.cut_tensors) == crossed
    after = reached(model, names(model.graph.input), crossed)
    assert not after & set(plan.tail_outputs)
    alone = index.cut_tensors(index.made_from([tensor]))
    assert cut_tensors.total_bytes is not None
    assert cut_tensors.total_bytes <= sum(types[name].size_bytes for name in alone)
    for name, is_earlier in ((cut_tensors.before, True), (cut_tensors.after, False)):
        if name is not None:
            assert (index.makers[name] < index.makers[tensor]) == is_earlier
            assert name in single_tensor_cuts(index)


@given(drawn_models(), st.data())
def test_no_node_runs_twice_and_each_output_is_made_once(model, data) -> None:
    index = index_graph(model)
    tensors = data.draw(st.lists(st.sampled_from(list(index.makers)), min_size=1, max_size=3, unique=True))
    try:
        plan = plan_cut(index, tensors)
    except CoopexportError:
        return
    assert sorted([*plan.head_outputs, *plan.tail_outputs]) == sorted(index.outputs)
    head, tail = set(nodes_in(plan.head)), set(nodes_in(index.behind(plan.head)))
    assert all(model.graph.node[number].name == "constant" for number in head & tail)
    assert {node.name for node in needed_nodes(model)} <= {model.graph.node[number].name for number in head | tail}


def test_sets_of_nodes_are_listed_in_ascending_order() -> None:
    assert list(nodes_in((1 << 70) | 5)) == [0, 2, 70]
    assert list(nodes_in(0)) == []


def indexed(name: str) -> tuple[GraphIndex, dict[str, TensorType]]:
    model = exported(name)
    return index_graph(model), tensor_types(model)


def test_a_dense_block_names_what_crosses_and_the_nearest_clean_cuts() -> None:
    index, types = indexed("densenet_small")
    tensor = next(name for name in index.makers if "stage2.unit2.conv2" in name and "Relu" in name)
    cut_tensors = cut_tensors_after(index, tensor, types)
    assert [name.rpartition("/")[2] for name, _ in cut_tensors.tensors] == ["Concat_output_0", "Relu_output_0"]
    assert [size for _, size in cut_tensors.tensors] == [types[name].size_bytes for name, _ in cut_tensors.tensors]
    assert cut_tensors.before is not None
    assert cut_tensors.after is not None
    assert "stage2.unit1/Concat" in cut_tensors.before
    assert "stage2.unit2/Concat" in cut_tensors.after
    line = describe_cut_tensors(cut_tensors, types)
    assert f"{cut_tensors.total_bytes:,} bytes together" in line
    assert f"{cut_tensors.before} ({types[cut_tensors.before].size_bytes:,} bytes) before" in line


def test_early_exits_leave_the_trunk_clean() -> None:
    """Their branches hang on, and their outputs come out of the head."""
    index, _ = indexed("branchynet_small")
    cuts = single_tensor_cuts(index)
    trunk = [name for name in cuts if "conv2" in name or "conv3" in name]
    assert len(trunk) >= 4
    plan = plan_cut(index, [trunk[-1]])
    assert plan.head_outputs == ("scores_1", "scores_2")
    assert plan.tail_outputs == ("scores",)


def test_of_two_inputs_one_may_cross() -> None:
    index, types = indexed("two_inputs_small")
    first = next(name for name in index.makers if "depth1" in name and "Relu" in name)
    cut_tensors = cut_tensors_after(index, first, types)
    assert [name for name, _ in cut_tensors.tensors] == ["images", first]
    assert cut_tensors.before is None


def test_names_that_are_no_cut_say_why() -> None:
    index, _ = indexed("two_inputs_small")
    with pytest.raises(CoopexportError, match="'nothing' is not a tensor of the graph"):
        plan_cut(index, ["nothing"])
    with pytest.raises(CoopexportError, match="'images', 'images_1': the network's own input"):
        plan_cut(index, ["images", "images_1"])
    with pytest.raises(CoopexportError, match="'scores': the network's output"):
        plan_cut(index, ["scores"])


def test_a_tensor_that_no_output_needs_and_a_constant_are_named() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["dead"]),
         helper.make_node("Constant", [], ["c"], value_float=1.0), helper.make_node("Add", ["a", "c"], ["out"])],
        "dead",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 2])],
    )  # fmt: skip
    index = index_graph(helper.make_model(graph))
    assert single_tensor_cuts(index) == ("a",)
    with pytest.raises(CoopexportError, match="'dead' is not needed"):
        plan_cut(index, ["dead"])
    with pytest.raises(CoopexportError, match="'c' is a constant"):
        plan_cut(index, ["c"])


def plain(*nodes: tuple[str, str, str], outputs: str = "y") -> GraphIndex:
    """Return a graph over x, one letter per tensor: operator, what it reads, what it makes."""
    made = [helper.make_node(operator, list(reads), [makes]) for operator, reads, makes in nodes]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", *outputs)}
    graph = helper.make_graph(made, "plain", [values["x"]], [values[name] for name in outputs])
    return index_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


@pytest.mark.parametrize(
    ("sizes", "cut_tensors"),
    [
        ({"a": 1, "b": 9}, ["a", "t"]),  # the head holds what t needs, and the branch goes to the tail
        ({"a": 9, "b": 1}, ["b", "t"]),  # the head holds the branch, too, as the order of the graph has it
    ],
)
def test_of_several_heads_the_one_counts_that_sends_the_fewest_bytes(
    sizes: dict[str, int], cut_tensors: list[str]
) -> None:
    index = plain(("Relu", "x", "a"), ("Neg", "a", "b"), ("Sin", "a", "t"), ("Add", "bt", "y"))
    types = {name: TensorType((sizes.get(name, 3),)) for name in "xabty"}
    assert [name for name, _ in cut_tensors_after(index, "t", types).tensors] == cut_tensors


def test_an_exit_that_does_not_depend_on_the_tensor_is_made_by_the_head() -> None:
    """It comes last in the order of the graph, where only the head that takes it along sends one tensor."""
    index = plain(("Relu", "x", "a"), ("Sin", "a", "t"), ("Neg", "t", "y"), ("Exp", "a", "e"), outputs="ye")
    types = {name: TensorType((3,)) for name in "xatye"}
    assert [name for name, _ in cut_tensors_after(index, "t", types).tensors] == ["t"]
    assert single_tensor_cuts(index) == ("a", "t")
    assert plan_cut(index, ["t"]).head_outputs == ("e",)


def test_sets_that_an_output_of_the_head_would_not_be_made_from_are_no_cuts() -> None:
    """The output e reads s, which crosses, and u, which does not: between e and y the set of s and v is alive."""
    index = plain(
        ("Relu", "x", "s"), ("Neg", "x", "u"), ("Sin", "x", "v"), ("Add", "su", "e"), ("Add", "sv", "y"), outputs="ey"
    )
    assert multi_tensor_cuts(index, 3) == (("x", "s"), ("x", "s", "u"), ("s", "u", "v"))
    assert set(plan_cut(index, ["s", "v"]).cut_tensors) == {"x", "s", "v"}


def test_drawn_numbers_are_no_constants() -> None:
    """Noise that the graph draws depends on nothing, and would be other noise in each half."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("RandomNormal", [], ["noise"], shape=[1, 2]),
         helper.make_node("Sin", ["a"], ["b"]), helper.make_node("Add", ["b", "noise"], ["out"])],
        "noisy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 2])],
    )  # fmt: skip
    assert single_tensor_cuts(index_graph(helper.make_model(graph))) == ()


def test_a_crossing_of_unknown_size_has_no_total() -> None:
    assert CutTensors((("a", 4), ("b", None)), None, None).total_bytes is None
    assert "there is no clean cut near it" in describe_cut_tensors(CutTensors((("a", 4), ("b", None)), None, None), {})
