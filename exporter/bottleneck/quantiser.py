"""Rounding to symbols inside a network that is trained, and the bits that the symbols take, both with gradients."""

from __future__ import annotations

import torch
from torch import nn

from exporter.bottleneck.design import bounded_encoding

# Symbols with more bits than these share contexts of neighbours: tables of their own would never fill.
_CONTEXT_BITS = 4
# Of what was counted so far, after every batch.
_MEMORY = 0.98
# Of every symbol in every context before anything was seen.
_FIRST_COUNT = 0.05


class Quantiser(nn.Module):
    """Rounds values between 0 and 1 to exactly the numbers that FeatureDecode makes of FeatureEncode's symbols.

    Gradients pass as if nothing were rounded (straight-through; Bengio, Leonard & Courville 2013). While it is trained
    it counts symbols per channel and context (the prediction of LOCO-I, as in jetson.wire.contexts), and `sample_bits`
    is how many bits the last batch would take under these counts, the mean over its samples: of symbols as they are,
    with the gradient of the line between the costs of the two symbols around each value.
    """

    counts: torch.Tensor

    def __init__(self, bits: int, channels: int) -> None:
        super().__init__()
        encoding = bounded_encoding(bits)
        self.step, self.inverse_step = encoding.step[0], encoding.inverse_step[0]
        self.bits = bits
        contexts = 1 << min(bits, _CONTEXT_BITS)
        self.register_buffer("counts", torch.full((channels, contexts, 1 << bits), _FIRST_COUNT))
        self.sample_bits: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` (N x channels x ..., between 0 and 1) on the nearest of 2^bits levels."""
        scaled = x.float() * self.inverse_step
        symbols = torch.round(scaled).detach()
        if self.training:
            self.sample_bits = self._bits(scaled, symbols)
            self._count(symbols)
            return x + (symbols * self.step - x).detach()
        return symbols * self.step

    def symbols(self, x: torch.Tensor) -> torch.Tensor:
        """Return the symbols of `x` (between 0 and 1), whole numbers as float32: those of FeatureEncode."""
        return torch.round(x.float() * self.inverse_step)

    def estimated_bits(self, symbols: torch.Tensor) -> torch.Tensor:
        """Return the bits that each sample of `symbols` (N x channels x ..., whole numbers) takes under the counts."""
        numbers = symbols.long()
        cost = self._costs()[self._channels(numbers), self._contexts(numbers), numbers]
        return cost.flatten(1).sum(dim=1)

    def _costs(self) -> torch.Tensor:
        """Return the bits of each symbol in each context of each channel."""
        return torch.log2(self.counts.sum(dim=2, keepdim=True)) - torch.log2(self.counts)

    def _bits(self, scaled: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        costs, numbers = self._costs(), symbols.long()
        channels, contexts = self._channels(numbers), self._contexts(numbers)
        below = scaled.detach().floor().long().clamp(max=(1 << self.bits) - 2)
        slope = costs[channels, contexts, below + 1] - costs[channels, contexts, below]
        cost = costs[channels, contexts, numbers] + slope * (scaled - scaled.detach())
        return cost.flatten(1).sum(dim=1).mean()

    @torch.no_grad()
    def _count(self, symbols: torch.Tensor) -> None:
        numbers = symbols.long()
        place = (self._channels(numbers) * self.counts.shape[1] + self._contexts(numbers)) * self.counts.shape[2]
        seen = torch.bincount((place + numbers).flatten(), minlength=self.counts.numel()).view_as(self.counts)
        self.counts.mul_(_MEMORY).add_(seen.to(self.counts.dtype)).clamp_(min=_FIRST_COUNT)

    def _channels(self, numbers: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, *[1] * (numbers.dim() - 2))
        return torch.arange(numbers.shape[1], device=numbers.device).reshape(shape).expand_as(numbers)

    def _contexts(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the class of the prediction that each symbol's neighbours give; a vector has none."""
        if numbers.dim() != 4:
            return torch.zeros_like(numbers)
        framed = nn.functional.pad(numbers, (1, 0, 1, 0))
        left, up, corner = framed[:, :, 1:, :-1], framed[:, :, :-1, 1:], framed[:, :, :-1, :-1]
        least, most = torch.minimum(left, up), torch.maximum(left, up)
        predicted = (left + up - corner).clamp(min=least, max=most)
        return predicted >> max(0, self.bits - _CONTEXT_BITS)
