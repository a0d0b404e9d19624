"""An upper bound for a high percentile, with as much confidence as the samples support: MLPerf's early stopping."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99


def percentile_bound(ranked: NDArray[np.float64], percent: int) -> float | None:
    """Return an upper bound for the `percent`-th percentile of what `ranked` was drawn from, None for too few samples.

    It is the t-th largest sample, t being `over_latency_queries`. In fewer than 1 of 100 runs the percentile is above
    it. `ranked`: in ascending order, in any unit; independent, of one distribution, whatever its form.
    """
    allowed = over_latency_queries(len(ranked), percent)
    return None if allowed == 0 else float(ranked[-allowed])


def least_samples(percent: int) -> int:
    """Return how many samples a bound for the `percent`-th percentile needs: 64 for the 90th, 662 for the 99th."""
    count = 1
    while over_latency_queries(count, percent) == 0:
        count += 1
    return count


@lru_cache(maxsize=1024)
def over_latency_queries(count: int, percent: int) -> int:
    """Return how many of `count` queries may take as long as a latency or longer, for it to pass as the percentile.

    That is the largest t with P(X <= t) <= 1 - 0.99, where X is the number of queries above the true percentile, which
    is binomial: `count` trials, each with probability 1 - `percent` / 100. 0 where even t = 1 is likelier. Source: the
    early stopping of MLPerf Inference (loadgen/early_stopping.cc and results.cc of mlcommons/inference), which takes
    confidence 0.99 and tolerance 0, and reports the t-th largest latency.
    """
    above = 1 - percent / 100
    odds = math.log(above / (1 - above))
    # log P(X = k) from log P(X = k - 1): P(X = k) / P(X = k - 1) = (count - k + 1) / k * above / (1 - above).
    most = min(count, math.ceil(count * above))
    k = np.arange(1, most + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((count - k + 1) / k) + odds)]) + count * math.log(1 - above)
    cumulative = np.cumsum(np.exp(logs))
    return max(int(np.searchsorted(cumulative, 1 - CONFIDENCE, side="right")) - 1, 0)
