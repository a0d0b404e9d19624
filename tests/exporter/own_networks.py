"""Networks that pytorchcv does not have as their authors define them, and networks with several inputs or outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

# Table 1 of Szegedy et al. 2015: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class ConvNorm(nn.Module):
    """Convolution, batch norm, functional ReLU."""

    def __init__(self, before: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    def __init__(self, before: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = ConvNorm(before, one, 1)
        self.branch2 = nn.Sequential(ConvNorm(before, reduce3, 1), ConvNorm(reduce3, three, 3))
        self.branch3 = nn.Sequential(ConvNorm(before, reduce5, 1), ConvNorm(reduce5, five, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), ConvNorm(before, pool, 1))
        self.width = one + three + five + pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """GoogLeNet with batch norm, without its training classifiers."""

    def __init__(self, divisor: int, cells: Sequence[str], classes: int) -> None:
        super().__init__()
        width = 64 // divisor
        self.conv1 = ConvNorm(3, width, 7, 2)
        self.conv2 = ConvNorm(width, width, 1)
        self.conv3 = ConvNorm(width, 3 * width, 3)
        self.cells = tuple(cells)
        width *= 3
        for cell in cells:
            made = Inception(width, *(max(1, size // divisor) for size in INCEPTIONS[cell]))
            self.add_module(f"inception{cell}", made)
            width = made.width
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = functional.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        stage = "3"
        for cell in self.cells:
            if cell[0] != stage:
                x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
                stage = cell[0]
            x = getattr(self, f"inception{cell}")(x)
        x = torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1)
        return self.fc(self.dropout(x))


def googlenet(divisor: int = 1, cells: Sequence[str] = tuple(INCEPTIONS), classes: int = 1000) -> nn.Module:
    """Return GoogLeNet; `divisor` of its widths, `cells` of its inception modules."""
    return GoogLeNet(divisor, cells, classes)


def double_convolution(before: int, width: int) -> nn.Sequential:
    """Return the two convolutions of U-Net's stages, padded, with batch norm."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """U-Net as Ronneberger et al. 2015 define it, with padding: up-convolutions 2x2, and skips by concatenation."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            double_convolution(before, after) for before, after in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * after, after, 2, 2) for after in reversed(widths[:-1]))
        self.merge = nn.ModuleList(double_convolution(2 * after, after) for after in reversed(widths[:-1]))
        self.out = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for stage in self.down:
            x = stage(functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.out(x)


def unet(width: int, depth: int, classes: int = 2) -> nn.Module:
    """Return a U-Net whose first stage is `width` wide."""
    return UNet(width, depth, classes)


class TwoInputs(nn.Module):
    """Colour and depth: depth is added into the colour branch after each stage (FuseNet), then both are joined."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.colour1, self.depth1 = ConvNorm(3, width, 3), ConvNorm(1, width, 3)
        self.colour2, self.depth2 = ConvNorm(width, 2 * width, 3, 2), ConvNorm(width, 2 * width, 3, 2)
        self.joint = ConvNorm(4 * width, 3 * width, 1)
        self.fc = nn.Linear(3 * width, classes)

    def forward(self, colour: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        depth = self.depth1(depth)
        colour = self.colour1(colour) + depth
        depth = self.depth2(depth)
        colour = torch.add(self.colour2(colour), depth)
        x = self.joint(torch.cat((colour, functional.avg_pool2d(depth, 3, 1, 1)), dim=1))
        return self.fc(x.mean((2, 3)))


def two_inputs(width: int, classes: int) -> nn.Module:
    """Return a network that takes an image and a depth map."""
    return TwoInputs(width, classes)


class BranchyNet(nn.Module):
    """A LeNet-like trunk with an exit after its first and its second stage (Teerapittayanon et al. 2016)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width, 5)
        self.conv2 = ConvNorm(width, 2 * width, 3)
        self.conv3 = ConvNorm(2 * width, 3 * width, 3)
        self.exit1 = nn.Sequential(ConvNorm(width, width, 3), nn.MaxPool2d(4), nn.Flatten())
        self.exit1_fc = nn.Linear(width * 4 * 4, classes)
        self.exit2 = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes))
        self.fc1 = nn.Linear(3 * width * 4 * 4, 32)
        self.fc2 = nn.Linear(32, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = functional.max_pool2d(self.conv1(x), 2)
        first = self.exit1_fc(self.exit1(x))
        x = functional.max_pool2d(self.conv2(x), 2)
        second = self.exit2(x)
        x = functional.max_pool2d(self.conv3(x), 2)
        last = self.fc2(functional.relu(self.fc1(x.view(x.size(0), -1))))
        return last, first, second


def branchynet(width: int, classes: int) -> nn.Module:
    """Return a network with three exits, the last first."""
    return BranchyNet(width, classes)
