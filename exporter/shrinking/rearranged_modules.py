"""Modules that a shrunk network has in place of its own where plain ones cannot do the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _Rearranged:
    """A convolution that picks its inputs and outputs, and adds a bias for each position; each where it is given.

    Needed where the groups of a convolution keep unequal numbers of channels (they are filled up with zero weights),
    and where a constant channel was folded that zero padding changes at the border.
    """

    input_index: torch.Tensor | None
    output_index: torch.Tensor | None
    bias_map: torch.Tensor | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N x channels x positions for `x`, the same with the channels that arrive; floating point."""
        if self.input_index is not None:
            x = x.index_select(1, self.input_index)
        y: torch.Tensor = super().forward(x)  # type: ignore[misc]
        if self.output_index is not None:
            y = y.index_select(1, self.output_index)
        if self.bias_map is None:
            return y
        if y.shape[2:] != self.bias_map.shape[2:]:  # a map of one position would be spread over all of them
            raise ValueError(
                f"biases were folded for {tuple(self.bias_map.shape[2:])} positions, not {tuple(y.shape[2:])}"
            )
        return y + self.bias_map


class RearrangedConv1d(_Rearranged, nn.Conv1d):
    """nn.Conv1d with picked channels."""


class RearrangedConv2d(_Rearranged, nn.Conv2d):
    """nn.Conv2d with picked channels."""


class RearrangedConv3d(_Rearranged, nn.Conv3d):
    """nn.Conv3d with picked channels."""


class RearrangedConvTranspose1d(_Rearranged, nn.ConvTranspose1d):  # type: ignore[misc]  # without output_size
    """nn.ConvTranspose1d with picked channels."""


class RearrangedConvTranspose2d(_Rearranged, nn.ConvTranspose2d):  # type: ignore[misc]  # without output_size
    """nn.ConvTranspose2d with picked channels."""


class RearrangedConvTranspose3d(_Rearranged, nn.ConvTranspose3d):  # type: ignore[misc]  # without output_size
    """nn.ConvTranspose3d with picked channels."""


_REARRANGED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: RearrangedConv1d,
    nn.Conv2d: RearrangedConv2d,
    nn.Conv3d: RearrangedConv3d,
    nn.ConvTranspose1d: RearrangedConvTranspose1d,
    nn.ConvTranspose2d: RearrangedConvTranspose2d,
    nn.ConvTranspose3d: RearrangedConvTranspose3d,
}


def rearranged(convolution: nn.Module, **picks: torch.Tensor | None) -> nn.Module:
    """Return a convolution with the parameters of `convolution` that rearranges channels.

    `picks`: `input_index` and `output_index` (int64 vectors), `bias_map` (1 x channels x positions, floating point);
    None for nothing to do.
    """
    base = next(kind for kind in _REARRANGED if isinstance(convolution, kind))
    result: Any = _REARRANGED[base].__new__(_REARRANGED[base])
    result.__dict__ = {**convolution.__dict__, "_buffers": dict(convolution._buffers)}
    for name in ("input_index", "output_index", "bias_map"):
        result.register_buffer(name, picks.get(name))
    module: nn.Module = result
    return module


class SilencedChannels(nn.Module):
    """A module whose output is zero in some channels: masked ones that stay and whose activation gives no zero."""

    mask: torch.Tensor

    def __init__(self, inner: nn.Module, mask: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the inner module makes of `x`, times the mask, whose shape is broadcast."""
        y: torch.Tensor = self.inner(x)
        return y * self.mask
