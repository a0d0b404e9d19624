"""Small networks whose batch-norm statistics fit, so that their outputs depend on their inputs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def settle(network: nn.Module, input_shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Draw gamma and beta of every batch norm and let the running statistics follow random data; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        module.reset_running_stats()
        module.momentum = None  # the plain mean: nothing is left of the initial variance 1
        if module.affine:
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=generator)
            module.bias.data = torch.rand(module.bias.shape, generator=generator) - 0.5
    network.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws
        for _ in range(12):
            network(torch.randn((16, *input_shape), generator=generator))
    return network.eval()


def seeded(factory, *arguments, seed: int = 0, **options):
    """Return what `factory` makes from its arguments with torch seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(*arguments, **options)


def images(shape: tuple[int, ...], count: int = 16, seed: int = 1) -> torch.Tensor:
    """Return random inputs, count x shape."""
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """A residual block with functional activations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + x)


class Residual(nn.Module):
    """Stem, two residual blocks and a classifier behind x.view(x.size(0), -1), for 3 x 16 x 16 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = Block(8)
        self.block2 = Block(8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 2)
        x = functional.max_pool2d(self.block2(self.block1(x)), 2)
        return self.fc(x.view(x.size(0), -1))


def settled_residual() -> nn.Module:
    """Return the residual network with fitting statistics, in eval mode."""
    return settle(seeded(Residual), (3, 16, 16))


class Functional(nn.Module):
    """A convolution, an operation between, a classifier."""

    def __init__(self, operation, features: int = 4 * 7 * 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(features, 5)
        self.operation = operation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.operation(torch.relu(self.conv(x))))
