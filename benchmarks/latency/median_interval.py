"""The bootstrap interval of a median, without the resampling."""

from __future__ import annotations

from functools import lru_cache

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
    lower, upper = _ranks_of_medians(count)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile((ranked[lower] + ranked[upper]) / 2, [tail, 100 - tail])
    return float(low), float(high)


@lru_cache(maxsize=64)
def _ranks_of_medians(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the ranks, from 0, of the two middle samples of each resample; they are the same of an odd `count`."""
    random = np.random.default_rng(_SEED)
    middle = (count + 1) // 2
    lower = random.beta(middle, count + 1 - middle, _RESAMPLES)
    # The next smallest is that of the uniform numbers above it.
    upper = lower if count % 2 else lower + (1 - lower) * random.beta(1, count - middle, _RESAMPLES)
    first, second = (np.minimum((count * one).astype(np.intp), count - 1) for one in (lower, upper))
    return first, second
