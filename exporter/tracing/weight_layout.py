"""How convolutions and linear layers lay out their weights: group by group, output by output."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.tracing.operations import TRANSPOSED_CONVOLUTIONS


def groups_of(module: nn.Module) -> int:
    """Return the number of groups of a convolution; a linear has one."""
    groups = getattr(module, "groups", 1)
    assert isinstance(groups, int)
    return groups


def rows_of(weight: torch.Tensor, transposed: bool, groups: int) -> torch.Tensor:
    """Return a layer's weight as groups x outputs of a group x inputs of a group x kernel, without copying.

    `weight`: as the module holds it; a transposed convolution has its inputs first, and each group's outputs second.
    """
    rows = weight.detach().reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return rows.transpose(1, 2) if transposed else rows


def filters_of(module: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return `weight`, of the shape of the module's own weight (a mask of it, say), as `rows_of` does."""
    return rows_of(weight, isinstance(module, TRANSPOSED_CONVOLUTIONS), groups_of(module))


def zero_filters(filters: torch.Tensor) -> NDArray[np.bool_]:
    """Tell for every output channel of what `filters_of` returns whether its whole filter is zero; NaN is not.

    One element rules out nearly every filter that is not, so that few are read to their end.
    """
    first = filters
    while first.dim() > 2:
        first = first[..., 0]
    zero: NDArray[np.bool_] = (first == 0).cpu().numpy().copy()
    for group, channel in np.argwhere(zero):
        zero[group, channel] = not bool(filters[group, channel].any())
    return zero.reshape(-1)
