"""Every way of encoding a cut, from the command line to the running pair."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from residual_project import write_residual_project
from small_residual import IMAGES, LABELS

from engines.building.pair import open_pair
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_feature_codec, read_golden, read_split
from exporter.data.datasets import load_dataset
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import load_project
from jetson.errors import CoopexportError

CPU = find_target("cpu")
WAYS = {
    "4 bits in bytes": (["--bits", "4", "--packing", "bytes", "--codec", "zlib-huffman"], "4-bit zlib-huffman"),
    "2 bits in words, rANS": (["--bits", "2", "--packing", "words", "--codec", "rans", "--clip", "mse"], "2-bit rans"),
    "3 bits per channel": (
        ["--bits", "3", "--granularity", "channel", "--clip", "mse", "--codec", "rans-context"], "3-bit rans-context",
    ),
    "float16": (["--encoding", "float16"], "float16 zlib-huffman"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_encoding_runs_as_it_was_measured(coopexport: Callable, finished_project: Path, way: str) -> None:
    """Split, build, and push images through the pair one by one: recorded metric and bytes come out again."""
    options, coding = WAYS[way]
    arguments = ["--layer", "conv4_1", "--variant", "pruned"]
    result = coopexport(finished_project, "split", *arguments, *options)
    assert result.code == 0, result.errors
    assert coding in " ".join(result.output.split())
    folder = finished_project / "out" / "pruned"
    bundle = read_split(folder, "conv4_1")
    assert bundle.coding == coding
    assert coopexport(finished_project, "build", "--target", "cpu").code == 0
    pair = open_pair(folder, "conv4_1", CPU, CPU)
    evaluation = load_dataset(load_project(finished_project / "coopexport.toml"), "evaluation")
    right, sizes = [], []
    for image, label in zip(evaluation.images, evaluation.labels, strict=True):
        scores, size = pair.infer(image)
        right.append(scores.argmax() == label)
        sizes.append(size)
    # The engine may round a symbol otherwise than the session that measured all images at once.
    assert np.mean(right) == pytest.approx(bundle.metric.value, abs=0.011)
    assert np.mean(sizes) == pytest.approx(bundle.payload_bytes.mean, rel=0.01)


def test_a_message_needs_the_tables_and_the_pair_that_it_was_made_with(
    coopexport: Callable, finished_project: Path
) -> None:
    options = ["--bits", "3", "--codec", "rans-context"]
    for layer in ("conv4_1", "pool3"):
        assert coopexport(finished_project, "split", "--layer", layer, "--variant", "pruned", *options).code == 0
    folder = finished_project / "out" / "pruned"
    bundle = read_split(folder, "conv4_1")
    codec = read_feature_codec(folder, bundle)
    symbols = np.arange(np.prod(bundle.tensors[0].shape)).reshape(1, *bundle.tensors[0].shape).astype(np.uint8) % 8
    message = codec.encode([symbols])
    assert np.array_equal(codec.decode(message)[0], symbols)
    other_model = read_feature_codec(folder, read_split(folder, "pool3")).tensors[0].model
    assert other_model is not None
    changed_tables = codec._replace(tensors=(codec.tensors[0]._replace(model=other_model),))
    for changed in (changed_tables, codec._replace(associated_data=b"another pair"), codec._replace(batch=2)):
        with pytest.raises(CoopexportError, match="not of the same cut"):
            changed.decode(message)
    tables = folder / bundle.tensors[0].tables.file  # type: ignore[union-attr]
    tables.write_bytes(tables.read_bytes()[:-1] + b"x")
    with pytest.raises(CoopexportError, match="is not the file that its manifest names"):
        read_feature_codec(folder, bundle)


def test_a_way_of_encoding_and_the_recommended_one_exclude_each_other(
    coopexport: Callable, finished_project: Path
) -> None:
    refused = coopexport(finished_project, "split", "--layer", "conv4_1", "--recommended", "--bits", "4")
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "--bits and --recommended" in refused.errors


def test_standalone_halves_need_no_other_file(coopexport: Callable, finished_project: Path, tmp_path: Path) -> None:
    arguments = ["--layer", "conv4_1", "--variant", "pruned", "--standalone"]
    assert coopexport(finished_project, "split", *arguments).code == 0
    folder = finished_project / "out" / "pruned"
    bundle = read_split(folder, "conv4_1")
    golden = read_golden(folder, bundle.golden)
    alone = tmp_path / "alone"
    alone.mkdir()
    for record in (bundle.head, bundle.tail):
        shutil.copy(folder / record.file, alone)
    symbols = run(open_session(alone / bundle.head.file, "disabled"), [golden["inputs"]])[0]
    assert np.array_equal(symbols, golden["symbols_0"])
    outputs = run(open_session(alone / bundle.tail.file, "disabled"), [symbols])[0]
    assert outputs.tobytes() == golden["outputs"].tobytes()
    assert coopexport(finished_project, "build", "--target", "cpu").code == 0


@pytest.fixture
def residual_project(tmp_path: Path) -> Path:
    """A project whose network has residual blocks, with labels that its own outputs give."""
    return write_residual_project(tmp_path).folder


def test_several_tensors_cross_inside_a_block(coopexport: Callable, residual_project: Path) -> None:
    refused = coopexport(residual_project, "split", "--layer", "block1.conv1")
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "2 tensors cross there" in refused.errors
    assert "--max-tensors 2" in refused.errors
    options = ["--max-tensors", "2", "--bits", "6", "--codec", "rans-context"]
    result = coopexport(residual_project, "split", "--layer", "block1.conv1", *options)
    assert result.code == 0, result.errors
    folder = residual_project / "out" / "original"
    bundle = read_split(folder, "block1.conv1")
    assert [item.shape for item in bundle.tensors] == [(8, 8, 8), (8, 8, 8)]
    assert len({item.tables.sha256 for item in bundle.tensors if item.tables}) == 2
    for target in ("cpu", "rtx-ada"):
        built = coopexport(residual_project, "build", "--target", target)
        assert built.code == 0 or "TensorRT-RTX exists for" in built.errors, built.errors
    pair = open_pair(folder, "block1.conv1", CPU, CPU)
    results = [pair.infer(image) for image in IMAGES]
    right = np.mean([scores.argmax() == label for (scores, _), label in zip(results, LABELS, strict=True)])
    assert right == pytest.approx(bundle.metric.value, abs=0.04)
    assert np.mean([size for _, size in results]) == pytest.approx(bundle.payload_bytes.mean, rel=0.02)
    searched = coopexport(residual_project, "search", "--layer", "block1.conv1", "--max-tensors", "2")
    assert searched.code == 0, searched.errors
    assert "cut after block1.conv1: best of " in " ".join(searched.output.split())
    assert sum(line.lstrip().startswith("->") and "│" in line for line in searched.output.splitlines()) == 1
    assert searched.output.endswith("next: coopexport split --layer NAME --recommended\n")
    for arguments in (["bench", "--rounds", "8", "--warm-up", "1"], ["select"]):
        done = coopexport(residual_project, *arguments)
        assert done.code == 0, done.errors
