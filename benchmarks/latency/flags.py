"""Flags: why the latencies of an item are not to be trusted as they stand, found in the samples themselves.

A flag needs a test that chance passes once in a thousand times, so that a run of hundreds of parts has no flags without
a cause, and an effect of 5 %: within that the parts of a network, taken in one sitting, add up to the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.dip import dip

FlagKind = Literal["drift", "bimodal", "outliers", "few samples", "unsteady", "throttled", "float16"]

_MATTERS = 0.05
# Of the normal distribution: 1 in 1,000 is farther from 0.
_CHANCE_SCORE = 3.29
# The dip times the root of the number of samples: 1 in 1,000 sets of very many uniform samples has a larger one, fewer
# of few (0.74 from 72,000 samples on, 0.68 for 100, 0.62 for 20; Maechler's table in the R package diptest).
_CHANCE_DIP = 0.74
# Tukey (1977): "far out", in interquartile ranges beyond a quartile. Of normal samples 1 in a million is.
_FAR_OUT = 3.0
# A median so much less than an outlier is below what the clock resolves: their ratio says nothing.
_MOST_TIMES = 1e6

_Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Flag:
    """One reason for doubt. `kind`: one of a few words; `text`: the same with its number, for people."""

    kind: FlagKind
    text: str


def sample_flags(samples: _Samples, interval: tuple[float, float] | None) -> tuple[Flag, ...]:
    """Return the flags of `samples`, in milliseconds and in the order they were taken.

    `interval`: of their median, None if they are too few for one.
    """
    ranked = np.sort(samples)
    bimodal = _bimodal(ranked)
    # Two modes put the median anywhere between them, and the slow one far out: that is one reason, not three.
    others = [bimodal] if bimodal is not None else [_outliers(ranked), _few_samples(ranked, interval)]
    return tuple(flag for flag in (_drift(samples), *others) if flag is not None)


def _few_samples(ranked: _Samples, interval: tuple[float, float] | None) -> Flag | None:
    """Flag a median that is not known within 5 % to either side."""
    if interval is None:
        return Flag("few samples", f"few samples: {len(ranked)} say nothing of how well the median is known")
    median = float(np.median(ranked))
    off = max(interval[1] - median, median - interval[0])
    if off <= _MATTERS * median:
        return None
    known = f"{100 * off / median:.0f} %" if median > 0 else f"{off:.2g} ms"
    return Flag("few samples", f"few samples: from {len(ranked)} the median is known within {known} only")


def _drift(samples: _Samples) -> Flag | None:
    """Flag a last third that is slower or faster than the first, by Mann and Whitney's rank sum (1947).

    Ranks need no distribution of the noise. With fewer than 24 samples no difference of the thirds is beyond chance.
    """
    third = len(samples) // 3
    if third == 0:
        return None
    first, last = np.sort(samples[:third]), samples[-third:]
    # How many pairs rise, of all: equal ones count by half.
    rising = (np.searchsorted(first, last, "left").sum() + np.searchsorted(first, last, "right").sum()) / 2
    score = (rising - third * third / 2) / math.sqrt(third * third * (2 * third + 1) / 12)
    before, after = float(np.median(first)), float(np.median(last))
    if abs(score) < _CHANCE_SCORE or abs(after - before) <= _MATTERS * before:
        return None
    change = f"{100 * abs(after - before) / before:.0f} %" if before > 0 else f"{after - before:.2g} ms"
    return Flag("drift", f"drift: the last third is {change} {'slower' if after > before else 'faster'} than the first")


def _bimodal(ranked: _Samples) -> Flag | None:
    """Flag two modes, by the dip: one long tail, however long, has none.

    Of 100 samples the smaller mode needs a seventh where it is far off, more where it is near. The modes are told apart
    where the variance between them is largest (Otsu 1979), of logarithms, since latencies differ by factors, and
    without the slowest 5 %: a single one far out would be a mode by that measure.
    """
    if math.sqrt(len(ranked)) * dip(ranked) <= _CHANCE_DIP:
        return None
    inner = ranked[: len(ranked) - int(_MATTERS * len(ranked))]
    inner = inner[inner > 0]
    if len(inner) < 2:
        return None
    logs, count = np.log(inner), np.arange(1, len(inner))
    sums = np.cumsum(logs)
    between = (sums[-1] * count / len(inner) - sums[:-1]) ** 2 / (count * (len(inner) - count))
    fast, slow = np.split(inner, [int(between.argmax()) + 1])
    low, high = float(np.median(fast)), float(np.median(slow))
    if high <= (1 + _MATTERS) * low:
        return None
    share = 100 * (len(ranked) - int(np.searchsorted(ranked, slow[0]))) / len(ranked)
    return Flag("bimodal", f"bimodal: {share:.0f} % of the samples are around {high:.3g} ms, the others {low:.3g} ms")


def _outliers(ranked: _Samples) -> Flag | None:
    """Flag far slower samples that are 5 % of all, or that add 5 % to the mean."""
    median = float(np.median(ranked))
    far = ranked[ranked > max(_fence(ranked), (1 + _MATTERS) * median)]
    share, added = len(far) / len(ranked), float((far - median).sum()) / len(ranked)
    if share < _MATTERS and added <= _MATTERS * median:
        return None
    most = float(far[-1])
    shown = f"{most / median:.3g} times the median" if most < _MOST_TIMES * median else f"{most:.3g} ms"
    return Flag("outliers", f"outliers: {100 * share:.2g} % of the samples are far slower, up to {shown}")


def _fence(ranked: _Samples) -> float:
    """Return beyond what a sample is far out."""
    low, high = np.percentile(ranked, [25, 75])
    return float(high + _FAR_OUT * (high - low))
