"""The files of a shrink plan rebuild the shrunk network bit for bit, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from small_networks import images
from torch import nn

from exporter.masks.masks import Masks
from exporter.shrinking.plan import (
    PLAN_FILE,
    WEIGHTS_FILE,
    LayerPlan,
    ShrinkFile,
    ShrinkPlan,
    read_shrink_plan,
    write_shrink_plan,
)
from exporter.shrinking.rebuild import rebuild
from exporter.shrinking.shrink import Shrunk, shrink
from exporter.shrinking.slice_modules import apply_shrink_plan
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

WIDTHS = [8, 8, 12, 12, 16, 16, 16, 16, 16, 16, 16, 16, 16]
FACTORY = "exporter.models.vgg:vgg16"


@pytest.fixture(scope="module")
def shrunk(settled_vgg: nn.Module, random_images: np.ndarray) -> Shrunk:
    keep = {"features.conv1_2": np.arange(8) % 2 == 0, "features.conv4_1": np.arange(16) % 3 > 0}
    return shrink(settled_vgg, Masks(keep, "channel"), torch.from_numpy(random_images))


def write(folder: Path, shrunk: Shrunk, **changes) -> None:
    weights = save({name: value.contiguous() for name, value in shrunk.network.state_dict().items()})
    content = {
        **shrunk.plan.model_dump(),
        "factory": FACTORY,
        "arguments": {"widths": WIDTHS},
        "made_from": {"checkpoint": "c" * 64},
        "masks_sha256": "d" * 64,
        "weights": WEIGHTS_FILE,
        "weights_sha256": sha256_of_bytes(weights),
        "parity": tuple(check.to_json() for check in shrunk.parity),
        **changes,
    }
    write_shrink_plan(folder, ShrinkFile(**content), weights)


def refusal(folder: Path) -> str:
    with pytest.raises(CoopexportError) as caught:
        rebuild(folder, folder)
    return str(caught.value)


def test_rebuilt_equals_shrunk_bit_for_bit(tmp_path: Path, shrunk: Shrunk) -> None:
    write(tmp_path, shrunk)
    rebuilt = rebuild(tmp_path, tmp_path)
    assert not rebuilt.training
    wanted = shrunk.network.state_dict()
    assert list(rebuilt.state_dict()) == list(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in rebuilt.state_dict().items())
    with torch.no_grad():
        one, other = (network(images((3, 32, 32))) for network in (rebuilt, shrunk.network))
    assert torch.equal(one, other)
    assert rebuilt.features.conv4_1.out_channels == int((np.arange(16) % 3 > 0).sum())


def test_plan_survives_its_file(tmp_path: Path, shrunk: Shrunk) -> None:
    write(tmp_path, shrunk)
    read = read_shrink_plan(tmp_path)
    assert read.layers == shrunk.plan.layers
    assert read.parity[0]["check"] == "shrink"
    assert {layer.kind for layer in read.layers.values()} == {"convolution", "batch_norm", "linear"}
    assert all(list(layer.kept_outputs) == sorted(set(layer.kept_outputs)) for layer in read.layers.values())


def test_altered_or_missing_weights_are_refused(tmp_path: Path, shrunk: Shrunk) -> None:
    write(tmp_path, shrunk)
    weights = tmp_path / WEIGHTS_FILE
    tensors = load_file(weights)
    tensors["features.conv3_1.weight"][0, 0, 0, 0] += 1e-3
    weights.write_bytes(save(tensors))
    assert WEIGHTS_FILE in refusal(tmp_path)
    weights.unlink()
    assert "missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": {"widths": [6, *WIDTHS[1:]]}}, ["features.conv1_1"]),
        ({"arguments": {"widths": WIDTHS, "classes": 7}}, ["classifier"]),
        ({"factory": "torch.nn:Identity", "arguments": {}}, ["features.conv1_1", "does not have"]),
    ],
)
def test_the_plan_of_another_network_is_refused_by_layer(tmp_path: Path, shrunk: Shrunk, changes, words) -> None:
    write(tmp_path, shrunk, **changes)
    message = refusal(tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize("kept", [(0, 8), (0, -9)])
def test_indices_outside_of_the_layer_are_refused(kept: tuple[int, ...]) -> None:
    layer = LayerPlan(kind="linear", kept_outputs=kept, kept_inputs=(0,))
    with pytest.raises(CoopexportError, match="'0'"):
        apply_shrink_plan(nn.Sequential(nn.Linear(8, 8)), ShrinkPlan(layers={"0": layer}))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: content.pop("weights"), [PLAN_FILE, "weights"]),
        (lambda content: content["layers"]["classifier"].update(kind="conv2d"), ["layers.classifier.kind"]),
        (lambda content: content.update(schema="coopexport.shrink-plan/1.0"), ["shrink-plan/1.0", "shrink-plan/2.1"]),
    ],
)
def test_malformed_plans_are_refused(tmp_path: Path, shrunk: Shrunk, edit, words: list[str]) -> None:
    write(tmp_path, shrunk)
    content = json.loads((tmp_path / PLAN_FILE).read_text())
    edit(content)
    (tmp_path / PLAN_FILE).write_text(json.dumps(content))
    message = refusal(tmp_path)
    for word in words:
        assert word in message


def test_a_later_minor_version_is_read(tmp_path: Path, shrunk: Shrunk) -> None:
    write(tmp_path, shrunk)
    content = json.loads((tmp_path / PLAN_FILE).read_text())
    content.update(schema="coopexport.shrink-plan/2.9", news="unknown here")
    (tmp_path / PLAN_FILE).write_text(json.dumps(content))
    assert read_shrink_plan(tmp_path).weights == WEIGHTS_FILE


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    assert PLAN_FILE in refusal(tmp_path)
