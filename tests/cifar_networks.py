"""ResNet-18, MobileNetV2 and a DenseNet as commonly made for 3 x 32 x 32; `width` and `depth` (stages) scale them."""

from __future__ import annotations

import torch
from torch import nn


def _norm(before: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


class ResidualBlock(nn.Module):
    """He et al. 2016, the basic block."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _norm(before, width, 3, stride), _norm(width, width, 3)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else _norm(before, width, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018: expansion, depthwise convolution, projection without an activation."""

    def __init__(self, before: int, width: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = before * factor
        self.expand = nn.Sequential(*_norm(before, inner, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(*_norm(inner, inner, 3, stride, groups=inner), nn.ReLU6())
        self.project = _norm(inner, width, 1)
        self.adds = stride == 1 and before == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.project(self.depthwise(self.expand(x)))
        return x + made if self.adds else made


class DenseUnit(nn.Module):
    """Huang et al. 2017: what it makes is put beside what it read."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(before), nn.ReLU()
        self.conv = nn.Conv2d(before, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], 1)


class Classified(nn.Module):
    """Stages, the mean over positions, a linear classifier."""

    def __init__(self, stages: nn.Sequential, width: int, classes: int) -> None:
        super().__init__()
        self.stages, self.pool = stages, nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.stages(x)), 1))


def resnet18(width: int = 64, depth: int = 4, classes: int = 10) -> nn.Module:
    """Four stages of two blocks."""
    stages: list[nn.Module] = [nn.Sequential(*_norm(3, width, 3), nn.ReLU())]
    before = width
    for index in range(depth):
        after = width * 2**index
        stages.append(
            nn.Sequential(ResidualBlock(before, after, 1 if index == 0 else 2), ResidualBlock(after, after, 1))
        )
        before = after
    return Classified(nn.Sequential(*stages), before, classes)


def mobilenet_v2(width: float = 1.0, depth: int = 7, classes: int = 10) -> nn.Module:
    """The published stages, the first three without their stride."""
    table = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    before, last = max(8, round(32 * width)), max(16, round(1280 * width))
    stages: list[nn.Module] = [nn.Sequential(*_norm(3, before, 3), nn.ReLU6())]
    for factor, channels, count, stride in table[:depth]:
        after = max(4, round(channels * width))
        units = []
        for index in range(count):
            units.append(InvertedResidual(before, after, stride if index == 0 else 1, factor))
            before = after
        stages.append(nn.Sequential(*units))
    stages.append(nn.Sequential(*_norm(before, last, 1), nn.ReLU6()))
    return Classified(nn.Sequential(*stages), last, classes)


def densenet(growth: int = 12, units: int = 6, classes: int = 10) -> nn.Module:
    """Three blocks with transitions that halve channels and size."""
    before = 2 * growth
    stages: list[nn.Module] = [nn.Conv2d(3, before, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range(units):
            stages.append(DenseUnit(before, growth))
            before += growth
        if block < 2:
            transition = [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, before // 2, 1), nn.AvgPool2d(2)]
            stages.append(nn.Sequential(*transition))
            before //= 2
    stages += [nn.BatchNorm2d(before), nn.ReLU()]
    return Classified(nn.Sequential(*stages), before, classes)
