"""Summaries of latency samples that say no more than the samples do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.latency.flags import Flag, sample_flags
from benchmarks.latency.median_interval import median_interval
from benchmarks.latency.percentile_bound import percentile_bound


@dataclass(frozen=True)
class Summary:
    """Median, higher percentiles, mean and coefficient of variation.

    `p50_ms`: of the samples; `p50_low_ms`, `p50_high_ms`: its 95 % interval, None for fewer than 8. `p90_ms`, `p99_ms`:
    what the percentile is at most, with a confidence of 99 %; None for fewer than 64 and 662 samples. `cv`: standard
    deviation over mean. `flags`: why these numbers are not to be trusted as they stand.
    """

    count: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    mean_ms: float
    cv: float
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    flags: tuple[Flag, ...] = ()


def summarise(samples_ms: Sequence[float]) -> Summary:
    """Return the summary of at least one sample, in milliseconds, in the order that they were taken.

    Raises ValueError for none or a non-finite one.
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("latency samples must be finite, not negative, and at least one")
    ranked, mean = np.sort(values), float(values.mean())
    interval = median_interval(ranked)
    low_ms, high_ms = interval or (None, None)
    return Summary(
        int(values.size),
        float(np.percentile(values, 50)),
        percentile_bound(ranked, 90),
        percentile_bound(ranked, 99),
        mean,
        float(values.std() / mean) if mean > 0 else 0.0,
        low_ms,
        high_ms,
        sample_flags(values, interval),
    )
