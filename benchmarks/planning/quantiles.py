"""The goodput that a percentile of latency is taken at, for a link whose goodput varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from jetson.errors import InputError


def goodput_at_percentile(
    goodput_bps: Sequence[float], percentile: float, weights: Sequence[float] | None = None
) -> float:
    """Return the goodput, one of the samples, at which every candidate has its `percentile`-th percentile of latency.

    A latency falls as the goodput rises, so that its p-th percentile over the samples is the latency at one goodput:
    the largest that p percent of the samples reach. The percentile is the nearest rank (Hyndman & Fan 1996, definition
    1): the least latency that at least p percent of the samples do not exceed. Exact on the samples.

    `goodput_bps`: samples in bits per second. `percentile`: above 0, at most 100. `weights`: of the samples, such as
    how long each lasted; all the same without them. Raises InputError when there are no samples, or a number is not
    what it should be.
    """
    if not 0 < percentile <= 100:
        raise InputError(f"percentile {percentile:g} is not above 0 and at most 100")
    if not goodput_bps:
        raise InputError("there are no samples of the goodput to take a percentile of")
    given = [1.0] * len(goodput_bps) if weights is None else list(weights)
    if len(given) != len(goodput_bps):
        raise InputError(f"there are {len(given)} weights for {len(goodput_bps)} samples of the goodput")
    for index, (sample, weight) in enumerate(zip(goodput_bps, given, strict=True)):
        if not 0 < sample < math.inf:
            raise InputError(f"sample {index} of the goodput is {sample}: give positive numbers of bits per second")
        if not 0 <= weight < math.inf:
            raise InputError(f"weight {index} of the goodput is {weight}: it must be a number from 0 on")
    wanted = Fraction(str(percentile)) / 100 * sum(map(Fraction, given))
    if wanted <= 0:
        raise InputError("the samples of the goodput have no weight: they add up to 0")
    reached = Fraction(0)
    for sample, weight in sorted(zip(goodput_bps, given, strict=True), reverse=True):
        reached += Fraction(weight)
        if reached >= wanted:
            return float(sample)
    raise AssertionError("the weights reach their own sum")
