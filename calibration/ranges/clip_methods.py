"""How a clip range is chosen: extremes, percentile, least squared error, least divergence.

Each method takes values (rows x values, float32; a row is a channel, or the whole tensor), the true extremes of each
row, and the settings, and returns the lows and highs of the rows, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.encoding.specification import ClipMethod, Granularity
from jetson.errors import InputError

Rows = NDArray[np.float32]
Limits = NDArray[np.float64]
_BINS = 2048
# Parts of the full range that `mse` and `kl` try: geometric, since the best one of few bits is a small part.
_FRACTIONS = np.geomspace(0.01, 1.0, 96)
# Keeps the divergence finite where the quantised distribution has nothing.
_MIN_PROBABILITY = 1e-9


@dataclass(frozen=True)
class ClipSettings:
    """How ranges are chosen: `percentile` is for that method alone, `bits` (1 to 8) for `mse` and `kl`."""

    method: ClipMethod = "percentile"
    percentile: float = 99.99
    granularity: Granularity = "tensor"
    bits: int = 8

    def __post_init__(self) -> None:
        """Raise InputError when a setting is out of its range."""
        if self.method not in METHODS:
            raise InputError(f'clip method "{self.method}" is unknown', fix=f"use one of {', '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise InputError(f"percentile {self.percentile} is not above 50 and at most 100")


def by_extremes(values: Rows, minimum: Rows, maximum: Rows, settings: ClipSettings) -> tuple[Limits, Limits]:
    """Return the extremes themselves: nothing is clipped."""
    return minimum.astype(np.float64), maximum.astype(np.float64)


def by_percentile(values: Rows, minimum: Rows, maximum: Rows, settings: ClipSettings) -> tuple[Limits, Limits]:
    """Clip the highest (100 - percentile) % of each row, and as many of the lowest where some are negative.

    A feature that ends in ReLU keeps its exact 0.
    """
    high = np.percentile(values, settings.percentile, axis=1)
    low = np.percentile(values, 100 - settings.percentile, axis=1)
    return np.where(minimum < 0, low, minimum).astype(np.float64), high.astype(np.float64)


def by_squared_error(values: Rows, minimum: Rows, maximum: Rows, settings: ClipSettings) -> tuple[Limits, Limits]:
    """Take the range that loses least in squared error when quantised to 2^bits levels.

    Source: Banner et al., Post training 4-bit quantization of convolutional networks, NeurIPS 2019 (the criterion;
    the search is over 96 parts of the full range, on a histogram of 2048 bins).
    """
    return squared_error_range(*_histograms(values, minimum, maximum), minimum, maximum, settings.bits)


def squared_error_range(
    counts: Limits, centres: Limits, minimum: Rows, maximum: Rows, bits: int
) -> tuple[Limits, Limits]:
    """Do as `by_squared_error` with the histograms of the rows: counts and centres of the bins, rows x bins each."""
    highest = (1 << bits) - 1

    def cost(low: Limits, high: Limits) -> Limits:
        step = ((high - low) / highest)[:, np.newaxis]
        symbols = np.clip(np.rint((centres - low[:, np.newaxis]) / step), 0, highest)
        squared: Limits = (counts * (centres - symbols * step - low[:, np.newaxis]) ** 2).sum(axis=1)
        return squared

    return _least(minimum, maximum, cost)


def by_divergence(values: Rows, minimum: Rows, maximum: Rows, settings: ClipSettings) -> tuple[Limits, Limits]:
    """Take the range whose 2^bits levels keep the distribution of the values best (Kullback-Leibler).

    Zeros are left out: the quantiser holds them exactly, and where there are many, as behind a ReLU, spreading them
    over a level would outweigh everything else.

    Source: Migacz, 8-bit inference with TensorRT, GTC 2017; searched as `by_squared_error`.
    """
    return divergence_range(*_histograms(values, minimum, maximum, values != 0), minimum, maximum, settings.bits)


def divergence_range(counts: Limits, centres: Limits, minimum: Rows, maximum: Rows, bits: int) -> tuple[Limits, Limits]:
    """Do as `by_divergence` with the histograms of the rows, exact zeros left out: rows x bins each."""
    rows, highest = len(counts), (1 << bits) - 1

    def cost(low: Limits, high: Limits) -> Limits:
        inside = (centres >= low[:, np.newaxis]) & (centres <= high[:, np.newaxis])
        step = ((high - low) / highest)[:, np.newaxis]
        symbols = np.clip(np.rint((centres - low[:, np.newaxis]) / step), 0, highest).astype(np.int64)
        places = (symbols + np.arange(rows)[:, np.newaxis] * (highest + 1)).reshape(-1)

        def by_level(weights: Limits) -> Limits:
            sums = np.bincount(places, weights.reshape(-1), rows * (highest + 1))
            spread: Limits = sums[places].reshape(weights.shape)
            return spread

        held = np.where(inside, counts, 0.0)
        occupied = (held > 0).astype(np.float64)
        quantised = np.where(held > 0, by_level(held) / np.maximum(by_level(occupied), 1), 0.0)
        # What lies outside piles up at the ends in the reference alone: that is what clipping costs.
        reference = held + _piled_up(counts, inside)
        reference /= np.maximum(reference.sum(axis=1, keepdims=True), 1)
        quantised = np.maximum(quantised / np.maximum(quantised.sum(axis=1, keepdims=True), 1), _MIN_PROBABILITY)
        ratio = np.where(reference > 0, reference / quantised, 1.0)
        divergence: Limits = (reference * np.log(ratio)).sum(axis=1)
        return divergence

    return _least(minimum, maximum, cost)


METHODS: dict[ClipMethod, Callable[[Rows, Rows, Rows, ClipSettings], tuple[Limits, Limits]]] = {
    "minmax": by_extremes,
    "percentile": by_percentile,
    "mse": by_squared_error,
    "kl": by_divergence,
}


def _histograms(
    values: Rows, minimum: Rows, maximum: Rows, counted: NDArray[np.bool_] | None = None
) -> tuple[Limits, Limits]:
    """Return counts and centres of equal bins from extreme to extreme, rows x bins each; of all values by default."""
    low = minimum.astype(np.float64)[:, np.newaxis]
    width = np.maximum(maximum.astype(np.float64)[:, np.newaxis] - low, np.finfo(np.float64).tiny) / _BINS
    bins = np.clip(((values - low) / width).astype(np.int64), 0, _BINS - 1)
    places = (bins + np.arange(len(values))[:, np.newaxis] * _BINS).reshape(-1)
    weights = None if counted is None else counted.reshape(-1)
    counts = np.bincount(places, weights, len(values) * _BINS).reshape(len(values), _BINS)
    return counts.astype(np.float64), low + (np.arange(_BINS) + 0.5) * width


def _piled_up(counts: Limits, inside: NDArray[np.bool_]) -> Limits:
    """Return what is outside, put into the first and the last bin that is inside."""
    bins = counts.shape[1]
    first, last = inside.argmax(axis=1), bins - 1 - inside[:, ::-1].argmax(axis=1)
    position, rows = np.arange(bins), np.arange(len(counts))
    piled = np.zeros_like(counts)
    piled[rows, first] += np.where(position < first[:, np.newaxis], counts, 0.0).sum(axis=1)
    piled[rows, last] += np.where(position > last[:, np.newaxis], counts, 0.0).sum(axis=1)
    return piled


def _ranges(minimum: Rows, maximum: Rows) -> Iterator[tuple[Limits, Limits]]:
    """Yield parts of the full range; an end that is not on the other side of 0 stays, as the 0 of ReLU does."""
    low, high = minimum.astype(np.float64), maximum.astype(np.float64)
    both = (low < 0) & (high > 0)
    for fraction in _FRACTIONS:
        lower = np.where(both, low * fraction, np.where(low >= 0, low, high + (low - high) * fraction))
        upper = np.where(both, high * fraction, np.where(low >= 0, low + (high - low) * fraction, high))
        yield lower, np.where(upper > lower, upper, lower + 1.0)  # a constant row: any range serves


def _least(minimum: Rows, maximum: Rows, cost: Callable[[Limits, Limits], Limits]) -> tuple[Limits, Limits]:
    """Return for each row the part of its range that costs least."""
    low, high = minimum.astype(np.float64), maximum.astype(np.float64)
    least = np.full(len(low), np.inf)
    for lower, upper in _ranges(minimum, maximum):
        found = cost(lower, upper)
        better = found < least
        least = np.where(better, found, least)
        low, high = np.where(better, lower, low), np.where(better, upper, high)
    constant = minimum == maximum
    return np.where(constant, minimum, low), np.where(constant, maximum, high)
