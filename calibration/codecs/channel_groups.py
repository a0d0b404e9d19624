"""Which channels of a feature share a table: those that are alike in their symbols, where tables of their own pay."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# One group more has to save this share of the held-out bits.
MIN_GAIN = 0.002
# Where there are more channels, neighbours in order begin together.
_FIRST_GROUPS = 64
# What all channels say together counts in each group as much as so many symbols.
_SMOOTHING_SYMBOLS = 16.0


@dataclass(frozen=True)
class _Group:
    """Channels, and how often each symbol was seen in them, and is in what was held out."""

    channels: tuple[int, ...]
    seen: NDArray[np.int64]
    unseen: NDArray[np.int64]

    def with_channels_of(self, other: _Group) -> _Group:
        """Return both as one group."""
        return _Group(self.channels + other.channels, self.seen + other.seen, self.unseen + other.unseen)

    def bits(self, everything: NDArray[np.float64]) -> float:
        """Return the bits of an ideal code for what was held out; `everything`: probabilities in all channels."""
        table = self.seen + _SMOOTHING_SYMBOLS * everything
        return float(-(self.unseen * np.log2(table / table.sum())).sum())


def group_channels(
    counted: NDArray[np.uint8], held_out: NDArray[np.uint8], bits: int, most_groups: int
) -> NDArray[np.uint8]:
    """Return the group of each channel, numbered from 0 on: the fewest groups of those that code nearly best.

    `counted`, `held_out`: uint8, samples x channels x height x width each; tables of order 0 are counted on the first
    and judged on the second. In the order of their mean symbol, the two neighbours whose joint table costs least are
    joined, over and over.
    """
    seen, unseen = _counts(counted, bits), _counts(held_out, bits)
    everything = (seen.sum(axis=0) + 0.5) / (seen.sum() + 0.5 * seen.shape[1])
    order = np.argsort(seen @ np.arange(1 << bits), kind="stable")
    runs = np.array_split(order, min(len(order), _FIRST_GROUPS))
    groups = [_Group(tuple(run.tolist()), seen[run].sum(axis=0), unseen[run].sum(axis=0)) for run in runs]
    costs = [group.bits(everything) for group in groups]
    joint = [one.with_channels_of(other).bits(everything) for one, other in pairwise(groups)]
    stages = [(sum(costs), list(groups))]
    while len(groups) > 1:
        loss = [joint[place] - costs[place] - costs[place + 1] for place in range(len(joint))]
        place = int(np.argmin(loss))
        groups[place : place + 2] = [groups[place].with_channels_of(groups[place + 1])]
        costs[place : place + 2] = [joint[place]]
        del joint[place]
        for pair in (place - 1, place):
            if 0 <= pair < len(joint):
                joint[pair] = groups[pair].with_channels_of(groups[pair + 1]).bits(everything)
        stages.append((sum(costs), list(groups)))
    allowed = [stage for stage in stages if len(stage[1]) <= most_groups]
    enough = (1 + MIN_GAIN) * min(cost for cost, _ in allowed)
    chosen = min((stage for stage in allowed if stage[0] <= enough), key=lambda stage: len(stage[1]))[1]
    found = np.empty(len(order), np.uint8)
    for number, group in enumerate(chosen):
        found[list(group.channels)] = number
    return found


def _counts(symbols: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """Return how often each symbol is in each channel: channels x 2^bits."""
    channels = range(symbols.shape[1])
    return np.stack([np.bincount(symbols[:, channel].ravel(), minlength=1 << bits) for channel in channels])
