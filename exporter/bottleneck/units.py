"""What a bottleneck is made of: a reduction and a bound on the device, a recovery on the edge.

As in BottleNet++ (Shao & Zhang 2020) and BBNet (Zhou et al. 2021): a strided convolution to few channels, a bounded
activation, and a transposed convolution with a convolution behind, back to the feature's shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from exporter.bottleneck.design import BottleneckDesign

# Fewer than these and the convolutions behind could not tell features apart.
_LEAST_HIDDEN, _MOST_HIDDEN = 16, 64


class Crop(nn.Module):
    """Takes off the rows and columns that a stride which does not divide the feature's size adds."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the first `height` rows and `width` columns of `x`."""
        return x[:, :, : self.height, : self.width]


def reduction_unit(design: BottleneckDesign, feature: Sequence[int]) -> nn.Module:
    """Return the convolution to fewer channels and pixels, or, for a vector, the layer to fewer numbers."""
    if len(feature) == 1:
        return nn.Linear(feature[0], design.channels)
    kernel = _kernel(design.stride, feature)
    return nn.Conv2d(feature[0], design.channels, kernel, design.stride, kernel // 2)


def recovery_unit(design: BottleneckDesign, feature: Sequence[int], rectified: bool) -> nn.Sequential:
    """Return what makes a feature of this shape of what crosses; `rectified`: it has no negative numbers."""
    channels = feature[0]
    hidden = min(_MOST_HIDDEN, max(_LEAST_HIDDEN, 2 * design.channels), max(channels, _LEAST_HIDDEN))
    layers: list[nn.Module]
    if len(feature) == 1:
        layers = [nn.Linear(design.channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)]
    else:
        kernel = _kernel(1, feature)
        layers = [*_upsampling(design, hidden, feature), nn.BatchNorm2d(hidden), nn.ReLU()]
        layers.append(nn.Conv2d(hidden, channels, kernel, padding=kernel // 2))
    return nn.Sequential(*layers, *([nn.ReLU()] if rectified else []))


def _upsampling(design: BottleneckDesign, hidden: int, feature: Sequence[int]) -> list[nn.Module]:
    stride, (height, width) = design.stride, feature[1:]
    if stride == 1:
        kernel = _kernel(1, feature)
        return [nn.Conv2d(design.channels, hidden, kernel, padding=kernel // 2, bias=False)]
    # Every pixel gets of as many others, whatever the stride: no pattern of a chessboard.
    up = nn.ConvTranspose2d(design.channels, hidden, 2 * stride, stride, stride // 2, bias=False)
    is_exact = height % stride == 0 and width % stride == 0
    return [up] if is_exact else [up, Crop(height, width)]


def _kernel(stride: int, feature: Sequence[int]) -> int:
    """Return an odd size that leaves no pixel out; a feature of one pixel has no neighbours."""
    return 1 if max(feature[1:]) == 1 else max(3, 2 * stride - 1)
