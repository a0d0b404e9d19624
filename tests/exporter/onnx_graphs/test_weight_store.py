"""Weights in files named by their hash: all of them, once, from any form, and never a wrong one."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests_support import files_below

from exporter.bundles.bundle import verify_weights
from exporter.cutting.onnx_file import read_graph
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types
from exporter.onnx_graphs.weight_store import external_bytes, store_weights, with_weights
from jetson.errors import CoopexportError

WEIGHTS = np.random.default_rng(0).standard_normal((40, 50), dtype=np.float32)
# A graph and its weights, stored by the version before `jetson.store.blobs`.
EARLIER_BUNDLE = Path(__file__).parents[2] / "data/blobs/bundle"
X = np.random.default_rng(1).standard_normal((3, 40), dtype=np.float32)


def branch(operator: str, made: str) -> onnx.GraphProto:
    weight = numpy_helper.from_array(np.full((20, 50), 2, np.float32), f"{made}_weight")
    return helper.make_graph(
        [helper.make_node("ReduceMean", [f"{made}_weight"], [f"{made}_mean"], axes=[0]),
         helper.make_node(operator, ["h", f"{made}_mean"], [made])],
        "branch", [], [helper.make_tensor_value_info(made, 1, None)], [weight],
    )  # fmt: skip


def model() -> onnx.ModelProto:
    """A graph with large, small, double and typed-field weights, and weights in the bodies of an If."""
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [50, 50], np.eye(50, dtype=np.float32).ravel(), raw=False)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h0"]),
        helper.make_node("MatMul", ["h0", "typed"], ["h1"]),
        helper.make_node("Add", ["h1", "twin"], ["h2"]),
        helper.make_node("Reshape", ["h2", "sizes"], ["h"]),
        helper.make_node("If", ["yes"], ["c"], then_branch=branch("Add", "r"), else_branch=branch("Sub", "s")),
        helper.make_node("Sin", ["c"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(WEIGHTS, "w"),
        typed,
        numpy_helper.from_array(np.ones((1, 50), np.float32), "twin"),
        numpy_helper.from_array(np.int64([-1, 50]), "sizes"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 50])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def assert_same_function(stored: onnx.ModelProto, folder: Path) -> None:
    expected = open_session(model(), "disabled").run(None, {"x": X})[0]
    found = open_session(stored, "disabled", weights_folder=folder).run(None, {"x": X})[0]
    assert found.tobytes() == expected.tobytes()


def weight_files(folder: Path) -> list[Path]:
    return sorted((folder / "weights").iterdir())


def test_weights_are_stored_by_their_hash_and_the_model_is_not_changed(tmp_path: Path) -> None:
    whole = model()
    before = whole.SerializeToString(deterministic=True)
    stored = store_weights(whole, tmp_path)
    assert whole.SerializeToString(deterministic=True) == before
    assert len(weight_files(tmp_path)) == 2
    for path in weight_files(tmp_path):
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    locations = {tensor.name: tensor.data_location for tensor in stored.graph.initializer}
    assert [name for name, where in locations.items() if where == TensorProto.EXTERNAL] == ["w", "typed"]
    assert external_bytes(stored) == 8000 + 10000
    assert_same_function(stored, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights"]


@pytest.mark.parametrize("one_file", [True, False])
def test_external_weights_come_from_anywhere_in_a_file(tmp_path: Path, one_file: bool) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    onnx.save(
        model(), str(source / "m.onnx"), save_as_external_data=True, all_tensors_to_one_file=one_file,
        location="all.bin" if one_file else None, size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    graph = read_graph(source / "m.onnx")
    assert graph.ByteSize() < 13000  # small ones inside, the rest not read
    assert tensor_types(graph)["y"].shape == (50,)
    stored = store_weights(graph, folder, source)
    assert_same_function(stored, folder)
    assert {path.stem for path in weight_files(folder)} >= {hashlib.sha256(WEIGHTS.tobytes()).hexdigest()}


def test_stored_weights_are_not_written_again_and_damaged_ones_are(tmp_path: Path) -> None:
    stored = store_weights(model(), tmp_path)
    times = {path: path.stat().st_mtime_ns for path in weight_files(tmp_path)}
    again = store_weights(stored, tmp_path, tmp_path)
    assert again.SerializeToString(deterministic=True) == stored.SerializeToString(deterministic=True)
    store_weights(model(), tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in weight_files(tmp_path)}
    damaged = weight_files(tmp_path)[0]
    damaged.write_bytes(b"short")
    store_weights(model(), tmp_path)
    assert damaged.stem == hashlib.sha256(damaged.read_bytes()).hexdigest()


def test_a_bundle_of_an_earlier_version_is_read_and_stored_in_the_same_form(tmp_path: Path) -> None:
    verify_weights(EARLIER_BUNDLE, EARLIER_BUNDLE / "model.onnx")
    graph = read_graph(EARLIER_BUNDLE / "model.onnx")
    x = np.arange(60, dtype=np.float32).reshape(3, 20)
    first, second = ((np.arange(400) % period).reshape(20, 20).astype(np.float32) for period in (7, 5))
    found = open_session(graph, "disabled", weights_folder=EARLIER_BUNDLE).run(None, {"x": x})[0]
    assert np.array_equal(found, x @ first @ second)  # whole numbers: exact
    assert len({*found.ravel()}) > 10
    whole = with_weights(graph, EARLIER_BUNDLE)
    for given, source in ((whole, None), (graph, EARLIER_BUNDLE)):
        folder = tmp_path / str(source is None)
        again = store_weights(given, folder, source)
        assert again.SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)
        assert files_below(folder) | {"model.onnx"} == files_below(EARLIER_BUNDLE)
        for name in files_below(folder):
            assert (folder / name).read_bytes() == (EARLIER_BUNDLE / name).read_bytes()


def test_what_a_kill_left_behind_goes_and_nothing_else(tmp_path: Path) -> None:
    store_weights(model(), tmp_path)
    kept = files_below(tmp_path)
    for name in (".blocks.0123.part", ".blocks.4567.part", "mine.part"):
        (tmp_path / "weights" / name).write_bytes(b"half a weight")
    for name in (".blocks.0123.part", "mine.part"):
        os.utime(tmp_path / "weights" / name, (1.0, 1.0))
    store_weights(model(), tmp_path)
    # The other one may be another process's, which writes it now.
    assert files_below(tmp_path) == kept | {"weights/.blocks.4567.part", "weights/mine.part"}


def test_what_would_be_stored_is_told_without_a_file(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    onnx.save(model(), str(source / "m.onnx"), save_as_external_data=True, location="all.bin", size_threshold=0)
    for graph, where in ((model(), None), (read_graph(source / "m.onnx"), source)):
        told = store_weights(graph, folder, where, is_dry=True)
        assert not folder.exists()
        stored = store_weights(graph, folder, where)
        assert told.SerializeToString(deterministic=True) == stored.SerializeToString(deterministic=True)
        shutil.rmtree(folder)


def test_equal_weights_are_one_file(tmp_path: Path) -> None:
    whole = model()
    whole.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "again"))
    store_weights(whole, tmp_path)
    assert len(weight_files(tmp_path)) == 2


def test_weights_inside_again(tmp_path: Path) -> None:
    stored = store_weights(model(), tmp_path)
    whole = with_weights(stored, tmp_path)
    onnx.checker.check_model(whole, full_check=True)
    assert external_bytes(whole) == 0
    expected = open_session(model(), "disabled").run(None, {"x": X})[0]
    assert open_session(whole, "disabled").run(None, {"x": X})[0].tobytes() == expected.tobytes()


def test_a_file_above_two_gigabytes_is_refused(tmp_path: Path) -> None:
    stored = store_weights(model(), tmp_path)
    for entry in stored.graph.initializer[0].external_data:
        if entry.key == "length":
            entry.value = str(1 << 31)
    with pytest.raises(CoopexportError, match=r"2\.1 GB do not fit .* leave out --standalone"):
        with_weights(stored, tmp_path)


@pytest.mark.parametrize(
    ("location", "length", "reason"),
    [
        ("../outside.bin", "8000", "outside of the folder"),
        ("none.bin", "8000", "which is missing"),
        ("short.bin", "8000", "shorter than the graph says"),
    ],
)
def test_a_weight_that_is_not_there_is_named(tmp_path: Path, location: str, length: str, reason: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(8000))
    (source / "short.bin").write_bytes(bytes(7999))
    graph = model()
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=length)
    with pytest.raises(CoopexportError, match=f"weight 'w' .*{reason}"):
        store_weights(graph, tmp_path / "folder", source)
    assert list((tmp_path / "folder" / "weights").iterdir()) == []


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(8000))
    (source / "w.bin").symlink_to(tmp_path / "secret.bin")
    graph = model()
    graph.graph.initializer[0].data_location = TensorProto.EXTERNAL
    graph.graph.initializer[0].external_data.add(key="location", value="w.bin")
    with pytest.raises(CoopexportError, match="outside of the folder"):
        store_weights(graph, tmp_path / "folder", source)


@pytest.mark.full
def test_more_than_two_gigabytes_pass_in_blocks(tmp_path: Path) -> None:
    """A sparse file of 2.2 GB: its weights are never in memory together."""
    rows = 540
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.mkdir()
    with (source / "w.bin").open("wb") as file:
        file.truncate(rows * (1 << 20) * 4)
    weight = TensorProto(
        name="w", dims=[rows, 1 << 20], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value="w.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("ReduceMax", ["h"], ["y"], axes=[1])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [weight],
    )
    (source / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    stored = store_weights(read_graph(source / "m.onnx"), folder, source)
    assert external_bytes(stored) == rows * (1 << 22)
    assert weight_files(folder)[0].stat().st_size == rows * (1 << 22)
    with pytest.raises(CoopexportError, match="2 GB at most"):
        with_weights(stored, folder)
