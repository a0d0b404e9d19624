"""A network and data small enough to be pruned in seconds, for tests of both steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from exporter.project.settings import PruneSection, TrainingSection
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.dense_network import state_of
from exporter.pruning.session import PruningSession
from exporter.training.fit import fit
from exporter.training.losses import cross_entropy
from exporter.training.training_set import TrainingSet, training_set_of_arrays
from jetson.runtime.preprocessing import Preprocessing

CLASSES = 3
_PREPROCESSING = Preprocessing(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Chain(nn.Module):
    """Two convolutions with batch norm, a pool, a classifier; for 3 x 8 x 8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(12 * 16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        return self.fc(torch.flatten(x, 1))


def data(count: int = 96, seed: int = 0) -> TrainingSet:
    """Return noise with a bright spot whose place is the class."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (count, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(count) % CLASSES
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3, 3:6, label] = 250
    return training_set_of_arrays("spots", images, labels, _PREPROCESSING)


def accuracy(network: nn.Module) -> float:
    """Return the share of other images that the network gets right."""
    held_out = data(60, seed=1)
    every = np.arange(len(held_out))
    with torch.no_grad():
        outputs = network.eval()(torch.from_numpy(held_out.inputs(every)))
    return float((outputs.argmax(dim=1).numpy() == held_out.labels(every)).mean())


def trained_chain() -> Chain:
    """Return the network, trained to know the spots."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Chain()
    fit(network, data(), _training(), epochs=4, seed=0)
    return network.eval()


def pruning_session(folder: Path, evaluate: Callable[[nn.Module], float] = accuracy, **settings: Any) -> PruningSession:
    """Return what both steps work with; `settings`: of `[prune]`."""
    network = trained_chain()
    given = {"epochs": 1.0, "final_epochs": 0.0, "step_two_epochs": 1.0, "maximum_loss_points": 100.0, **settings}
    return PruningSession(
        groups=channel_groups(network, torch.from_numpy(data().inputs(np.arange(2)))),
        base=state_of(network),
        data=data(),
        evaluate=evaluate,
        loss=cross_entropy,
        training=_training(),
        settings=PruneSection.model_validate(given),
        teacher=None,
        made_from={"criterion": "this one"},
        folder=folder,
        project_folder=folder,
    )


def _training() -> TrainingSection:
    return TrainingSection(optimizer="adamw", learning_rate=0.01, batch_images=16, threads=1, device="cpu")
