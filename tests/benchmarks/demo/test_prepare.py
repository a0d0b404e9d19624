"""The demo's project: its file is one, and its network is trained and written with its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.demo.data import DemoData
from benchmarks.demo.prepare import CANDIDATES, Recipe, demo_project_text, prepare_project
from exporter.data.datasets import load_dataset
from exporter.models.vgg import vgg16
from exporter.project.checkpoint import load_network
from exporter.project.settings import load_project
from exporter.training.fit import Epoch


def test_the_project_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "coopexport.toml"
    path.write_text(demo_project_text(Recipe()))
    settings = load_project(path).settings
    assert settings.split.candidates == CANDIDATES
    recipe = Recipe()
    assert settings.model.arguments == {"widths": list(recipe.widths), "strides": [2], "classes": 10}
    assert settings.model.input_shape == (3, 64, 64)
    assert settings.bottleneck.channels == recipe.bottleneck_channels


def test_the_stem_is_a_small_share_of_the_work() -> None:
    """Splitting pays only where little is done before the cut."""
    recipe = Recipe()
    network = vgg16(recipe.widths, strides=recipe.strides)
    macs: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda own, given, made, name=name: macs.update({name: made[0, 0].numel() * own.weight.numel()})
            )
    network.eval()(torch.zeros(1, 3, recipe.image_pixels, recipe.image_pixels))
    assert 20e6 < sum(macs.values()) < 30e6
    assert macs["features.conv1_1"] + macs["features.conv1_2"] < 0.1 * sum(macs.values())


def test_what_was_trained_is_written_and_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8), np.arange(64) % 10
    recipe = Recipe(widths=(2, 3, *[4] * 11), strides=(), image_pixels=32, epochs=1)
    epochs: list[Epoch] = []
    written: list[Path] = []
    data = DemoData(images, labels, images[:8], labels[:8], images[8:20], labels[8:20])
    path = prepare_project(tmp_path, recipe, data, epochs.append, written.append)
    assert written == [path, tmp_path / "network.safetensors"]
    assert epochs[-1].number == epochs[-1].of == 1
    project = load_project(path)
    model = project.settings.model
    network = load_network(model.factory, model.arguments, project.path(model.checkpoint), project.folder)
    assert network.get_submodule("features.conv1_2").out_channels == 3
    for name, part in (("calibration", slice(8)), ("evaluation", slice(8, 20))):
        stored = load_dataset(project, name)
        assert np.array_equal(stored.images, images[part])
        assert np.array_equal(stored.labels, labels[part])
