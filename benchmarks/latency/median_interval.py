"""The bootstrap interval of a median, without the resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# With fewer, the interval reaches from the least to the greatest sample: it says nothing that they do not say.
LEAST_SAMPLES = 8
CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 15


def median_interval(ranked: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval (Efron 1979) of the median; None for fewer than 8 samples.

    `ranked`: samples in ascending order, in any unit. A resample draws the rank floor(n U), U uniform on [0, 1), n
    times; its k-th smallest rank is that of the k-th smallest U, which has the distribution Beta(k, n + 1 - k). So the
    ranks of the medians are drawn as such, and 2,000 resamples of any n cost as much as 2,000 numbers. The seed is
    fixed: the same samples give the same interval. It holds for independent samples of one distribution; samples that
    drift are flagged elsewhere.
    """
    count = len(ranked)
    if count < LEAST_SAMPLES:
        return None
    random = np.random.default_rng(_SEED)
    lower = (count + 1) // 2
    below = random.beta(lower, count + 1 - lower, _RESAMPLES)
    above = below
    if count % 2 == 0:  # the next smallest of those that are above it
        above = below + (1 - below) * random.beta(1, count - lower, _RESAMPLES)
    medians = (_at(ranked, below) + _at(ranked, above)) / 2
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)


def _at(ranked: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return ranked[np.minimum((shares * len(ranked)).astype(np.intp), len(ranked) - 1)]
