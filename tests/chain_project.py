"""A project with a network of two convolutions that knows its few images, small enough to be pruned in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pruning_case import trained_chain
from safetensors.torch import save_file

from exporter.project.settings import Project, load_project

CHAIN = """
schema = "coopexport.project/1.0"
[model]
factory = "pruning_case:Chain"
checkpoint = "network.safetensors"
input_shape = [3, 8, 8]
[preprocessing]
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[data]
training = "train.npz"
validation = "held_out.npz"
calibration = "train.npz"
evaluation = "held_out.npz"
[training]
optimizer = "adamw"
learning_rate = 0.01
batch_images = 16
threads = 1
device = "cpu"
[prune]
removed_share = 0.2
least_left = 0.7
epochs = 1
final_epochs = 1
step_two_epochs = 1
widths = 3
maximum_loss_points = 50
[split]
candidates = ["conv1", "conv2", "pool"]
"""


def write_images(path: Path, count: int, seed: int, size: int = 8, classes: int = 3) -> None:
    """Write noise with a bright spot whose place and colour are the class."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (count, size, size, 3)).astype(np.uint8)
    labels = np.arange(count) % classes
    side = size // classes + 1
    for image, label in zip(images, labels, strict=True):
        image[label * (size // classes) : label * (size // classes) + side, 3:6, label % 3] = 250
    np.savez(path, images=images, labels=labels)


def write_chain_project(folder: Path) -> Project:
    """Write project file, trained weights, 96 images to train with and 60 held out into `folder`."""
    write_images(folder / "train.npz", 96, 0)
    write_images(folder / "held_out.npz", 60, 1)
    save_file(dict(trained_chain().state_dict()), folder / "network.safetensors")
    (folder / "coopexport.toml").write_text(CHAIN)
    return load_project(folder / "coopexport.toml")
