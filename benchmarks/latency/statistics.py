"""Summaries of latency samples that say no more than the samples do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.latency.flags import Flag
from benchmarks.latency.median_interval import median_interval

# Samples that a percentile needs before it means anything: MLPerf's early-stopping rule.
MIN_SAMPLES = {50: 1, 90: 64, 99: 662}


@dataclass(frozen=True)
class Summary:
    """Median, higher percentiles (None where there are too few samples), mean and coefficient of variation.

    `p50_low_ms`, `p50_high_ms`: the 95 % interval of the median, None for fewer than 8 samples. `flags`: why these
    numbers are not to be trusted as they stand.
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
    """Return the summary of at least one sample, in milliseconds; raises ValueError for none or a non-finite one."""
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("latency samples must be finite, not negative, and at least one")
    mean = float(values.mean())
    low_ms, high_ms = median_interval(np.sort(values)) or (None, None)
    return Summary(
        int(values.size),
        float(np.percentile(values, 50)),
        _percentile(values, 90),
        _percentile(values, 99),
        mean,
        float(values.std() / mean) if mean > 0 else 0.0,
        low_ms,
        high_ms,
    )


def _percentile(values: np.ndarray, percent: int) -> float | None:
    if values.size < MIN_SAMPLES[percent]:
        return None
    return float(np.percentile(values, percent))
