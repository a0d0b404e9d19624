"""A project with a small grouped network, masks of both meanings and noise for data, to shrink without training."""

from __future__ import annotations

from pathlib import Path

import grouped_network
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from exporter.masks.masks import Masks, write_masks
from exporter.project.settings import Project, load_project

PROJECT = """
schema = "coopexport.project/1.0"
[model]
factory = "grouped_network:make"
checkpoint = "net.safetensors"
masks = "masks.safetensors"
input_shape = [3, 16, 16]
[data]
calibration = "data.npz"
evaluation = "data.npz"
"""


def make_network() -> nn.Module:
    """Return the network with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return grouped_network.make()


def random_keep(seed: int) -> dict[str, np.ndarray]:
    """Return which channels stay, drawn: 11 of 20, 13 of 24."""
    random = np.random.default_rng(seed)
    return {"conv1": random.permutation(20) < 11, "conv2": random.permutation(24) < 13}


def write_grouped_project(folder: Path) -> Project:
    """Write project file, weights, `masks` (channel) and `weight` (weight), and 32 images into `folder`."""
    (folder / "coopexport.toml").write_text(PROJECT)
    network = make_network()
    generator = torch.Generator().manual_seed(0)
    for norm in (network.bn1, network.bn2):  # statistics that fit, so that outputs depend on inputs
        norm.momentum = None
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.bias.data = torch.rand(norm.bias.shape, generator=generator) - 0.5
    with torch.no_grad():
        network.train()(torch.randn((64, 3, 16, 16), generator=generator))
    save_file(network.state_dict(), folder / "net.safetensors")
    write_masks(folder / "masks.safetensors", Masks(random_keep(0), "channel"))
    write_masks(folder / "weight.safetensors", Masks(random_keep(0), "weight"))
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (32, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=random.integers(0, 5, 32))
    return load_project(folder / "coopexport.toml")


def without_line(project: Project, start: str) -> Project:
    """Take the line that begins with `start` out of the project's file, which must be there; return the project."""
    file = project.folder / "coopexport.toml"
    lines = file.read_text().splitlines()
    left = [line for line in lines if not line.startswith(start)]
    assert len(left) == len(lines) - 1
    file.write_text("\n".join(left) + "\n")
    return load_project(file)
