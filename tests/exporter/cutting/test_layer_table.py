"""Any ONNX file as a table of its layers: what each makes, and where it can be cut."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter.cutting.layer_table import list_layers_of_file
from jetson.errors import CoopexportError

PLAIN = """<ir_version: 8, opset_import: ["" : 13]>
net (float[n, 2048] x) => (float[n, 1] y) {
    a = Relu (x) b = Sin (a) c = Add (a, b) y = ReduceMean <axes = [1]> (c) }"""


@pytest.fixture
def plain_file(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(PLAIN)
    for node, name in zip(model.graph.node, ("first", "second", "third", "last"), strict=True):
        node.name = name
    onnx.save(model, str(tmp_path / "plain.onnx"))
    return tmp_path / "plain.onnx"


def test_every_layer_says_what_crosses_behind_it(plain_file: Path) -> None:
    table = list_layers_of_file(plain_file)
    assert (table.name, table.macs, table.multi_tensor_cuts) == ("plain.onnx", 0, ())
    assert table.short_names == {"a": "first", "b": "second", "c": "third", "y": "last"}
    assert [(row.tensors, row.size_bytes, row.clean) for row in table.cuts] == [
        (("x",), 8192, True),
        (("a",), 8192, True),
        (("a", "b"), 16384, False),
        (("c",), 8192, True),
        (("y",), 4, False),  # an output: nothing is left to compute
        (("y",), 4, True),
    ]
    assert [None if row.layer is None else row.layer.name for row in table.cuts] == [
        None, "first", "second", "third", "last", None
    ]  # fmt: skip
    assert [path.name for path in plain_file.parent.iterdir()] == ["plain.onnx"]


def test_cuts_of_several_tensors_are_listed_where_they_are_asked_for(plain_file: Path) -> None:
    (row,) = list_layers_of_file(plain_file, 2).multi_tensor_cuts
    assert (row.tensors, row.shapes, row.size_bytes) == (("a", "b"), ((2048,), (2048,)), 16384)
    with pytest.raises(CoopexportError, match="maximum_tensors cannot be 1"):
        list_layers_of_file(plain_file, 1)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    for name, words in (("none.onnx", "there is no file"), ("text.onnx", r"text\.onnx is not an ONNX file")):
        with pytest.raises(CoopexportError, match=words):
            list_layers_of_file(tmp_path / name)
