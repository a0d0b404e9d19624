"""A network with residual blocks for a project of its own: its labels are what it says itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3)).astype(np.uint8)


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.conv2(functional.relu(self.conv1(x))))


class Residual(nn.Module):
    """A stem, two blocks, a classifier; for 3 x 16 x 16 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block1 = Block()
        self.block2 = Block()
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(functional.relu(self.stem(x))))
        return self.fc(torch.flatten(x, 1))


def network() -> nn.Module:
    """Return the network with seeded weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual().eval()


def _labels() -> np.ndarray:
    inputs = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / 128 - 1)
    with torch.no_grad():
        return network()(inputs).argmax(dim=1).numpy()


LABELS = _labels()
