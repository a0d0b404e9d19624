"""How far int8 reaches for an activation: symmetric, one range per tensor, from the histogram of its magnitudes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from calibration.precision.activations import BINS, MagnitudeHistogram
from calibration.ranges.clip_methods import divergence_range, squared_error_range
from jetson.errors import InputError

RangeMethod = Literal["minmax", "percentile", "entropy", "mse"]
# Steps from 0 to the end of the range: 127 = 2^7 - 1.
_BITS = 7


@dataclass(frozen=True)
class RangeSettings:
    """How ranges are chosen; `percentile`, of all magnitudes, is for that method alone."""

    method: RangeMethod = "entropy"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        """Raise InputError when a setting is out of its range."""
        if self.method not in get_args(RangeMethod):
            raise InputError(f'range method "{self.method}" is unknown', fix=f"use {', '.join(get_args(RangeMethod))}")
        if not 50 < self.percentile <= 100:
            raise InputError(f"percentile {self.percentile} is not above 50 and at most 100")


def int8_ranges(histograms: Mapping[str, MagnitudeHistogram], settings: RangeSettings) -> dict[str, float]:
    """Return for each tensor the magnitude that 127 stands for; 0 for one that is 0 everywhere.

    `minmax`: the largest one. `percentile`: exceeded by (100 - percentile) % of all values. `entropy`: the range whose
    128 levels keep the distribution best (Migacz, 8-bit inference with TensorRT, GTC 2017). `mse`: least squared error.
    The last two as `calibration.ranges.clip_methods`, whose search they share: over 96 parts of the range, zeros left
    out.
    """
    names = [name for name, item in histograms.items() if item.largest > 0]
    found = dict.fromkeys(histograms, 0.0)
    if not names:
        return found
    counts = np.stack([histograms[name].counts for name in names])
    largest = np.array([histograms[name].largest for name in names])
    if settings.method == "minmax":
        chosen = largest
    elif settings.method == "percentile":
        chosen = np.array([_percentile(histograms[name], settings.percentile) for name in names])
    else:
        centres = (np.arange(BINS) + 0.5) / BINS * largest[:, np.newaxis]
        search = divergence_range if settings.method == "entropy" else squared_error_range
        ends = np.zeros(len(names), np.float32), largest.astype(np.float32)
        chosen = search(counts, centres, *ends, _BITS)[1]
    return {**found, **{name: float(value) for name, value in zip(names, chosen, strict=True)}}


def _percentile(histogram: MagnitudeHistogram, percentile: float) -> float:
    """Return the magnitude below which so many values lie, to a bin's width, straight lines inside a bin."""
    reached = histogram.zeros + np.concatenate([[0.0], np.cumsum(histogram.counts)])
    wanted = percentile / 100 * reached[-1]
    edges = np.linspace(0, histogram.largest, BINS + 1)
    place = int(np.searchsorted(reached, wanted))
    if place == 0:  # so many zeros that the rest is beyond the percentile: clip none of it
        return histogram.largest
    inside = (wanted - reached[place - 1]) / (reached[place] - reached[place - 1])
    return float(edges[place - 1] + inside * (edges[place] - edges[place - 1]))
