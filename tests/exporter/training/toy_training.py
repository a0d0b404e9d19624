"""A network, images and settings on which a training takes a fraction of a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.project.settings import TrainingSection
from exporter.training.training_set import TrainingSet, training_set_of_arrays
from jetson.runtime.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,))


def toy_network(dropout: float = 0.2, seed: int = 0) -> nn.Module:
    """Return convolution, batch norm, dropout and linear, for 3 x 8 x 8 and four classes, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(24, 4),
        ).eval()


def toy_images(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noisy 8x8 images, bright in the quarter that their label, 0 to 3, names."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(4, size=count)
    images = generator.integers(60, 140, size=(count, 8, 8, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[top : top + 4, left : left + 4] += 80
    return images, labels


def toy_set(count: int = 70, seed: int = 0, name: str = "toy") -> TrainingSet:
    return training_set_of_arrays(name, *toy_images(count, seed), PREPROCESSING)


def toy_settings(**values: Any) -> TrainingSection:
    return TrainingSection(**{"learning_rate": 0.05, "batch_images": 16, "device": "cpu", **values})


def bits(network: nn.Module) -> dict[str, bytes]:
    """Return all parameters and buffers, bit for bit."""
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}
