"""Any unambiguous way to name a layer leads to it, and every short name leads back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporter.layers.candidates import Layer, candidates
from exporter.layers.names import find_layer, find_tensors, nearest_names, short_name
from exporter.onnx_graphs.index import GraphIndex, index_graph
from jetson.errors import CoopexportError


def layer(name: str, *aliases: str, clean: bool = True) -> Layer:
    return Layer(name, "Conv", f"/{name}/out", None, (1,), 4, 0, 0, clean, False, aliases)


parts = st.sampled_from(["a", "b", "conv", "0", "1"])
paths = st.lists(parts, min_size=1, max_size=3).map(".".join)


@given(st.lists(paths, min_size=1, max_size=8, unique=True), st.data())
def test_short_names_lead_back_to_their_layer(names: list[str], data) -> None:
    # Some names are aliases of the layer before them.
    layers: list[Layer] = []
    for name in names:
        if layers and data.draw(st.booleans()):
            previous = layers.pop()
            layers.append(layer(previous.name, *previous.aliases, name))
        else:
            layers.append(layer(name))
    for item in layers:
        assert find_layer(layers, item.name) == item
        short = short_name(layers, item.name)
        assert item.name == short or item.name.endswith("." + short)
        assert find_layer(layers, short) == item


@given(st.lists(paths, min_size=1, max_size=6, unique=True), paths)
def test_a_tail_is_found_ambiguous_or_unknown(names: list[str], wanted: str) -> None:
    assume(wanted not in names)
    layers = [layer(name) for name in names]
    fitting = [name for name in names if name.endswith("." + wanted)]
    if len(fitting) == 1:
        assert find_layer(layers, wanted).name == fitting[0]
        return
    with pytest.raises(CoopexportError) as caught:
        find_layer(layers, wanted)
    assert ("ambiguous" if fitting else "no layer") in str(caught.value)
    assert all(name in str(caught.value) for name in fitting)


def test_two_names_of_one_layer_are_not_ambiguous() -> None:
    layers = [layer("x.a.relu", "y.relu"), layer("z")]
    assert find_layer(layers, "relu") == layers[0]


def test_tensors_and_nodes_can_be_named() -> None:
    layers = [layer("features.conv"), layer("/Flatten")]
    assert find_layer(layers, "/features.conv/out") == layers[0]
    assert find_layer(layers, "Flatten") == layers[1]


def test_nearest_names_are_layers_that_can_be_cut() -> None:
    layers = [layer(f"features.conv{i}_{j}", clean=i != 3) for i in range(1, 6) for j in (1, 2)]
    assert nearest_names(layers, "conv3_1")[0] in ("conv1_1", "conv2_1", "conv4_1", "conv5_1")
    assert len(nearest_names(layers, "conv3_1")) == 3
    assert not any("conv3" in name for name in nearest_names(layers, "conv3_1", 20))


@pytest.fixture(scope="module")
def plain() -> tuple[tuple[Layer, ...], GraphIndex]:
    """A graph that no PyTorch module made: a node and a tensor of the same name, a name with a slash."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["net/conv:0"], name="net/conv"),
        helper.make_node("Relu", ["net/conv:0"], ["same"], name="act"),
        helper.make_node("Sin", ["same"], ["a+b"], name="same"),
        helper.make_node("Neg", ["a+b"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return candidates(model), index_graph(model)


@pytest.mark.parametrize(
    ("wanted", "tensors"),
    [
        ("net/conv", ("same",)),  # a node: behind the activation of its layer
        ("net/conv:0", ("net/conv:0",)),  # a tensor: exactly there
        ("act", ("same",)),
        ("tensor:same", ("same",)),  # a node is called so, too
        ("a+b", ("a+b",)),
        ("last + act", ("y", "same")),
        ("tensor:a+b", ("a+b",)),
        ("tensor:same + act", ("same",)),
        ("act+act", ("same",)),
        ("x", ("x",)),
    ],
)
def test_nodes_and_tensors_of_any_graph_can_be_named(plain, wanted: str, tensors: tuple[str, ...]) -> None:
    assert find_tensors(*plain, wanted) == tensors


def test_a_name_of_several_places_is_refused_with_all_of_them(plain) -> None:
    for wanted in ("same", "act + same"):
        with pytest.raises(CoopexportError) as caught:
            find_tensors(*plain, wanted)
        assert str(caught.value) == (
            '"same" names 2 places to cut; use one of "tensor:same" (behind Relu), "tensor:a+b" (behind Sin)'
        )


def cut_at(text: str, names: Sequence[str], wanted: str) -> tuple[str, ...]:
    """Find `wanted` in a graph whose nodes have these names, in order."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return find_tensors(candidates(model), index_graph(model), wanted)


CHAIN = """net (float[4, 4] x) => (y) {
    m1 = MatMul (x, x) s1 = Add (m1, x) r1 = Relu (s1) m2 = MatMul (r1, x) s2 = Relu (m2) y = Neg (s2) }"""
FROZEN = ["net/fc1", "net/bias", "net/relu1", "net/fc2", "net/relu2", "net/neg"]


@pytest.mark.parametrize(
    ("wanted", "tensor"),
    [("net/fc1", "m1"), ("net/bias", "s1"), ("net/relu1", "r1"), ("net/fc2", "s2"), ("net/relu2", "s2"), ("net", "y")],
)
def test_a_node_is_cut_behind_itself_though_all_are_of_one_scope(wanted: str, tensor: str) -> None:
    """A frozen graph calls its nodes SCOPE/NAME: the scope is a layer, and each of its nodes is a place of its own."""
    assert cut_at(CHAIN, FROZEN, wanted) == (tensor,)


@pytest.mark.parametrize(("wanted", "places"), [("fc", ("m1", "s1", "r1")), ("act", ("r1", "s2"))])
def test_nodes_that_share_a_name_are_told_apart_by_their_tensors(wanted: str, places: tuple[str, ...]) -> None:
    """The layer of that name, which ends behind its activation, is a place of its own, too."""
    listed = ", ".join(f'"tensor:{name}" .behind [A-Za-z]+.' for name in places)
    with pytest.raises(CoopexportError, match=f'"{wanted}" names {len(places)} places to cut; use one of {listed}$'):
        cut_at(CHAIN, ["fc", "fc", "act", "fc2", "act", "neg"], wanted)


def test_one_name_or_several_joined_is_refused_when_both_are_there() -> None:
    with pytest.raises(CoopexportError, match=r'"a\+b" is one name, and several joined by "\+"; write "tensor:r1"'):
        cut_at(CHAIN, ["a", "b", "a+b", "c", "d", "e"], "a+b")


def test_an_unknown_name_in_any_graph_lists_the_nearest(plain) -> None:
    with pytest.raises(CoopexportError, match=r'there is no layer "sam"; the nearest are same'):
        find_tensors(*plain, "act+sam")
