"""The table of cuts: input and output are rows of it, and what an earlier cut undercuts is marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from composed import assert_exact
from family_graphs import exported
from onnx import helper
from small_networks import images, settled_residual

from exporter.cutting.cut import cut
from exporter.cutting.onnx_file import read_graph
from exporter.layers.candidates import candidates, layers_of
from exporter.layers.cut_points import cut_tensors_after, multi_tensor_cuts
from exporter.layers.export import export
from exporter.layers.table import cut_rows, multi_tensor_rows
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def residual() -> onnx.ModelProto:
    return export(settled_residual(), images((3, 16, 16))).model


def test_input_and_output_are_rows_and_unclean_layers_say_what_crosses(residual: onnx.ModelProto) -> None:
    index, types, layers = index_graph(residual), tensor_types(residual), candidates(residual)
    rows = cut_rows(index, types, layers)
    first, last = rows[0], rows[-1]
    assert (first.tensors, first.shapes, first.size_bytes, first.macs_before) == (("images",), ((3, 16, 16),), 3072, 0)
    assert (last.tensors, last.shapes, last.size_bytes) == (("scores",), ((10,),), 40)
    assert last.macs_before == layers[-1].macs_before
    assert not first.dominated
    assert not last.dominated
    assert [row.layer for row in rows[1:-1]] == list(layers)
    for row in rows[1:-1]:
        assert row.layer is not None
        if row.clean or row.layer.tensor == "scores":
            assert row.tensors == (row.layer.tensor,)
        else:
            cut_tensors = cut_tensors_after(index, row.layer.tensor, types)
            assert (row.tensors, row.size_bytes) == (
                tuple(name for name, _ in cut_tensors.tensors), cut_tensors.total_bytes,
            )  # fmt: skip
            assert len(row.tensors) > 1


def test_an_output_that_is_larger_than_a_cut_before_it_is_dominated() -> None:
    """A U-Net's output is as large as its input."""
    model = exported("unet_small")
    index, types = index_graph(model), tensor_types(model)
    rows = cut_rows(index, types, layers_of(index, types))
    sizes = [row.size_bytes for row in rows if row.clean]
    assert rows[-1].dominated == (min(sizes[:-1]) <= sizes[-1])


def test_cuts_of_several_tensors_are_dominated_by_any_earlier_cut() -> None:
    model = exported("unet_small")
    index, types = index_graph(model), tensor_types(model)
    rows = multi_tensor_rows(index, types, 4)
    assert [row.tensors for row in rows] == list(multi_tensor_cuts(index, 4))
    assert {len(row.tensors) for row in rows} == {2, 3, 4}
    smallest = sum(types[name].size_bytes for name in index.inputs)
    singles = [row for row in cut_rows(index, types, layers_of(index, types))[1:-1] if row.clean]
    for row in rows:
        last = max(index.makers[name] for name in row.tensors)
        earlier = [item.size_bytes for item in singles if index.makers[item.tensors[0]] < last]
        assert row.dominated == (min([smallest, *earlier]) <= row.size_bytes)
        smallest = min(smallest, row.size_bytes)
    assert rows[0].macs_before < rows[-1].macs_before


def test_a_set_as_large_as_an_earlier_one_is_dominated() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["a"], axes=[1]),
        helper.make_node("ReduceMax", ["x"], ["b"], axes=[1]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(*item) for item in (("x", 1, ["n", 8]), ("y", 1, ["n", 1]))]
    graph = helper.make_graph(nodes, "sets", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    rows = multi_tensor_rows(index_graph(model), tensor_types(model), 2)
    assert [(row.tensors, row.size_bytes, row.dominated) for row in rows] == [
        (("x", "a"), 36, True), (("a", "b"), 8, False), (("a", "c"), 8, True),
    ]  # fmt: skip


def test_a_cut_that_constants_of_other_operators_hide_is_no_output() -> None:
    """Nobody knows of a local function that it makes constants; the cut before it can be made all the same."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[n, 2] x) => (float[n, 2] y) <float[2] w = {1, 2}> {
            made = own.Twice (w) a = Add (x, w) b = Mul (a, made) y = Neg (b) }
        <domain: "own", opset_import: ["" : 17]> Twice (v) => (u) { u = Add (v, v) }""")
    index, types = index_graph(model), tensor_types(model)
    cleans = {row.layer.tensor: row.clean for row in cut_rows(index, types, layers_of(index, types)) if row.layer}
    assert cleans == {"a": True, "b": True, "y": False}
    halves = cut(index, ["a"], types)
    assert_exact(model, halves, {"x": np.float32([[1, -2], [3, 4]])})


def test_the_inputs_of_a_network_with_two_are_one_row() -> None:
    model = exported("two_inputs_small")
    index, types = index_graph(model), tensor_types(model)
    row = cut_rows(index, types, layers_of(index, types))[0]
    assert (row.tensors, row.size_bytes) == (("images", "images_1"), 4 * 32 * 32 * 4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"# Not a graph\n", "is not an ONNX file"),
        (b"", "it has no nodes or no outputs"),
    ],
)
def test_files_that_are_no_networks_are_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "some.onnx"
    path.write_bytes(content)
    with pytest.raises(CoopexportError, match=reason) as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CoopexportError, match="there is no file"):
        read_graph(tmp_path / "none.onnx")


def test_a_graph_that_makes_a_tensor_twice_is_refused(tmp_path: Path, residual: onnx.ModelProto) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(residual)
    broken.graph.node[2].output[0] = broken.graph.node[1].output[0]
    (tmp_path / "twice.onnx").write_bytes(broken.SerializeToString())
    with pytest.raises(CoopexportError, match="two nodes make"):
        read_graph(tmp_path / "twice.onnx")
