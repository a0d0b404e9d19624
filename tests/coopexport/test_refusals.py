"""Bad input gets one line that names the problem and the way out, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests_support import files_below


def expect_refusal(result, *words: str) -> None:
    """Assert exit code 2 and exactly one line with all of `words`."""
    assert result.code == 2, (result.output, result.errors)
    assert len(result.error_lines) == 1, result.errors
    line = result.error_lines[0]
    assert line.startswith("coopexport: error: ")
    for word in words:
        assert word in line, line
    assert "Traceback" not in result.errors


def test_unknown_layer_names_the_nearest(coopexport: Callable, project: Path) -> None:
    before = files_below(project)
    result = coopexport(project, "split", "--layer", "conv9_9")
    expect_refusal(result, '"conv9_9"', "conv5_3", "conv5_2")
    left = files_below(project) - before
    # The export is a stage of its own and is kept for the next try; no bundle or calibration of the cut is.
    assert {path for path in left if "weights" not in path} == {
        "out/original/model.onnx",
        "out/original/model.layers.json",
    }


def test_missing_project_file(coopexport: Callable, tmp_path: Path) -> None:
    expect_refusal(coopexport(tmp_path, "split", "--layer", "conv4_1"), "coopexport.toml", "coopexport init")
    expect_refusal(coopexport(tmp_path, "layers", "--project", "nowhere.toml"), "nowhere.toml")
    assert not files_below(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_corrupt_checkpoint(coopexport: Callable, project: Path, damage: str, suffix: str) -> None:
    good = project / "network.safetensors"
    path = project / f"damaged{suffix}"
    if suffix == ".pt":
        torch.save({"weight": torch.zeros(1000)}, path)
        content = path.read_bytes()
    else:
        content = good.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\x00\xff" * 500, "empty": b""}[damage])
    edit_project(project, "network.safetensors", path.name)
    before = files_below(project)
    expect_refusal(coopexport(project, "layers"), path.name, "corrupt")
    assert files_below(project) == before


class _Attack:
    """A pickle that creates a file when it is loaded carelessly."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickle_that_wants_to_run_code(coopexport: Callable, project: Path, tmp_path: Path, writer: str) -> None:
    proof = tmp_path / "the-attack-ran"
    path = project / "attack.pt"
    if writer == "torch":
        torch.save({"weight": torch.zeros(3), "attack": _Attack(proof)}, path)
    else:
        path.write_bytes(pickle.dumps(_Attack(proof)))
    edit_project(project, "network.safetensors", path.name)
    before = files_below(project)
    result = coopexport(project, "layers")
    expect_refusal(result, "attack.pt", "state_dict()")
    assert not proof.exists()
    assert files_below(project) == before


def test_wrong_input_shape(coopexport: Callable, project: Path) -> None:
    edit_project(project, "input_shape = [3, 32, 32]", "input_shape = [3, 30, 30]")
    before = files_below(project)
    expect_refusal(coopexport(project, "layers"), "(3, 32, 32)", "(3, 30, 30)", "model.input_shape")
    assert files_below(project) == before


def test_wrong_input_shape_without_data(coopexport: Callable, project: Path) -> None:
    edit_project(project, "input_shape = [3, 32, 32]", "input_shape = [1, 32, 32]")
    edit_project(project, 'calibration = "data/calibration.npz"', "")
    expect_refusal(coopexport(project, "layers"), "(1, 32, 32)", "model.input_shape")


def test_unknown_key_is_named_with_the_nearest(coopexport: Callable, project: Path) -> None:
    edit_project(project, 'checkpoint = "network.safetensors"', 'chekpoint = "network.safetensors"')
    expect_refusal(coopexport(project, "layers"), "chekpoint")
    edit_project(project, "[bench]", "[bench]\nround = 5")
    edit_project(project, 'chekpoint = "network.safetensors"', 'checkpoint = "network.safetensors"')
    expect_refusal(coopexport(project, "layers"), "bench.round", "did you mean rounds?")


def test_unknown_target_and_command(coopexport: Callable, finished_project: Path) -> None:
    expect_refusal(coopexport(finished_project, "build", "--target", "rtx-adda"), "rtx-adda", "rtx-ada")
    expect_refusal(coopexport(finished_project, "splt"), "splt")
    expect_refusal(coopexport(finished_project, "bench", "--rounds", "three"), "three")


def test_split_without_a_layer(coopexport: Callable, project: Path) -> None:
    expect_refusal(coopexport(project, "split"), "--layer", "--all")


def test_stages_out_of_order_name_the_missing_one(coopexport: Callable, project: Path) -> None:
    expect_refusal(coopexport(project, "build"), "coopexport split")
    expect_refusal(coopexport(project, "select"), "coopexport split")
    expect_refusal(coopexport(project, "split", "--layer", "conv4_1", "--variant", "pruned"), "coopexport shrink")


def test_damaged_bundle_is_refused(coopexport: Callable, finished_project: Path) -> None:
    folder = finished_project / "out" / "original"
    weights = sorted((folder / "weights").iterdir(), key=lambda path: path.stat().st_size)[-1]
    content = bytearray(weights.read_bytes())
    content[10] ^= 1
    weights.write_bytes(content)
    shutil.rmtree(folder / "engines")
    expect_refusal(coopexport(finished_project, "build", "--target", "cpu"), weights.name)
    assert not any(path.endswith(".part") for path in files_below(finished_project))


def test_altered_engine_is_not_loaded(coopexport: Callable, finished_project: Path) -> None:
    from engines.building.pair import open_pair
    from engines.targets.lookup import find_target
    from jetson.errors import CoopexportError

    folder = finished_project / "out" / "pruned"
    engine = folder / "engines" / "cpu" / "conv4_1.tail.onnx"
    engine.write_bytes(engine.read_bytes() + b"\0")
    cpu = find_target("cpu")
    with pytest.raises(CoopexportError, match="do not load it"):
        open_pair(folder, "conv4_1", cpu, cpu)


def test_too_much_loss_is_refused_with_layer_and_number(coopexport: Callable, project: Path) -> None:
    result = coopexport(project, "split", "--layer", "conv1_1", "--clip", "percentile", "--percentile", "50.1")
    assert result.code == 2, result.output
    expect_refusal(result, "conv1_1", "points")
    assert re.search(r"\d+\.\d\d points", result.errors)
    assert not any(path.endswith(".split.json") for path in files_below(project))


@pytest.mark.system
def test_full_disk(in_mounts: Callable) -> None:
    split = ["split", "--layer", "conv4_1"]
    results = in_mounts(*((f"size={size_kib}k", split) for size_kib in (16, 64, 96)))
    assert len(results) == 3
    for result in results:
        expect_refusal(result, "No space left on device")
        assert not any(path.endswith((".part", ".split.json")) for path in result.files)
        if "out/original/model.layers.json" not in result.files:  # only weights, whole, under their own hash
            assert all(re.fullmatch(r"out/original/weights/[0-9a-f]{64}\.bin", path) for path in result.files)


@pytest.mark.system
def test_read_only_mount(in_mounts: Callable) -> None:
    results = in_mounts(*(("ro", command) for command in (["layers"], ["shrink"], ["split", "--layer", "conv4_1"])))
    assert len(results) == 3
    for result in results:
        expect_refusal(result, "Read-only file system")
        assert result.files == set()


def edit_project(project: Path, old: str, new: str) -> None:
    """Replace one piece of the project file, which must be there."""
    path = project / "coopexport.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_changed_since_the_split_is_named(coopexport: Callable, finished_project: Path) -> None:
    original = (finished_project / "coopexport.toml").read_text()
    for old, new, named in (
        ('colour_order = "RGB"', 'colour_order = "BGR"', "preprocessing"),
        ('evaluation = "data/evaluation.npz"', 'evaluation = "data/calibration.npz"', "evaluation data"),
    ):
        (finished_project / "coopexport.toml").write_text(original)
        edit_project(finished_project, old, new)
        expect_refusal(coopexport(finished_project, "select"), named, "coopexport split --all")
    (finished_project / "coopexport.toml").write_text(original)
    shutil.copy(finished_project / "pruned.safetensors", finished_project / "network.safetensors")
    expect_refusal(coopexport(finished_project, "bench"), "checkpoint", "coopexport split --all")


def test_edited_network_code_is_exported_again(coopexport: Callable, finished_project: Path) -> None:
    (finished_project / "my_net.py").write_text(
        "from exporter.models.vgg import vgg16\n\n\ndef build(**arguments):\n    return vgg16(**arguments)\n"
    )
    edit_project(finished_project, "exporter.models.vgg:vgg16", "my_net:build")
    graph = finished_project / "out" / "original" / "model.onnx"
    assert coopexport(finished_project, "layers", "--variant", "original").code == 0
    before = graph.stat().st_mtime_ns
    assert coopexport(finished_project, "layers", "--variant", "original").code == 0
    assert graph.stat().st_mtime_ns == before
    (finished_project / "my_net.py").write_text(
        "import torch\nfrom exporter.models.vgg import vgg16\n\n\ndef build(**arguments):\n"
        "    network = vgg16(**arguments)\n    network.features.relu4_1 = torch.nn.Sigmoid()\n    return network\n"
    )
    assert coopexport(finished_project, "layers", "--variant", "original").code == 0
    assert graph.stat().st_mtime_ns != before
    assert b"Sigmoid" in graph.read_bytes()


def test_labels_that_are_no_classes_are_refused(coopexport: Callable, project: Path) -> None:
    with np.load(project / "data" / "evaluation.npz") as content:
        images, labels = content["images"], content["labels"]
    for wrong, named in ((labels + 1, "10 classes"), (labels / 10, "float64")):
        np.savez(project / "data" / "evaluation.npz", images=images, labels=wrong)
        expect_refusal(coopexport(project, "split", "--layer", "conv4_1"), named)


def test_layer_and_all_exclude_each_other(coopexport: Callable, project: Path) -> None:
    expect_refusal(coopexport(project, "split", "--all", "--layer", "conv4_1"), "--all")


def test_nan_in_a_checkpoint_is_named(coopexport: Callable, project: Path) -> None:
    weights = load_file(project / "network.safetensors")
    weights["features.conv4_1.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, project / "network.safetensors")
    expect_refusal(coopexport(project, "layers", "--variant", "original"), "features.conv4_1.weight", "1 values")
