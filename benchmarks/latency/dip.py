"""How far samples are from having one mode: Hartigan and Hartigan's dip (The Dip Test of Unimodality, 1985).

The dip is the largest distance between the samples' distribution function and the nearest one that is unimodal: convex
below its mode, concave above. Of all unimodal distributions the uniform one has the largest dips, so that what exceeds
its dips is no skew and no long tail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Numbers = NDArray[np.float64]
_ROUNDING = 1e-12


def dip(ranked: _Numbers) -> float:
    """Return the dip of samples, given in ascending order: from 1 / (2 count) to 1/4.

    The interval where the mode may lie shrinks from all samples on. In it the distribution function is above its
    greatest convex minorant and below its least concave majorant; where the two are farthest apart, the next interval
    begins or ends. It is over when they are no farther apart there than the function is, outside of it, from the
    minorant on the left and from the majorant on the right. A mode may have weight of its own: equal samples are none.
    """
    places, counts = np.unique(ranked, return_counts=True)
    upper = np.cumsum(counts) / len(ranked)  # the distribution function at each place
    lower = upper - counts / len(ranked)  # and just before it
    first, last, twice = 0, len(places) - 1, 1 / len(ranked)
    while first < last:
        x, above, below = (values[first : last + 1] for values in (places, upper, lower))
        of_minorant, of_majorant = _convex_hull(x, below), _convex_hull(x, -above)
        minorant = np.interp(x, x[of_minorant], below[of_minorant])
        majorant = np.interp(x, x[of_majorant], above[of_majorant])
        touches = np.union1d(of_minorant, of_majorant)
        apart = (majorant - minorant)[touches]
        farthest = touches[apart.argmax()]
        if apart.max() <= twice + _ROUNDING:
            break
        if farthest in of_minorant:
            begin, end = farthest, of_majorant[np.searchsorted(of_majorant, farthest)]
        else:
            begin, end = of_minorant[np.searchsorted(of_minorant, farthest) - 1], farthest
        outside = np.concatenate([(above - minorant)[:begin], (majorant - below)[end + 1 :]])
        twice = max(twice, float(outside.max(initial=0)))
        if end - begin == last - first:
            break
        first, last = first + int(begin), first + int(end)
    return twice / 2


def _convex_hull(x: _Numbers, y: _Numbers) -> NDArray[np.intp]:
    """Return the numbers of the points that the greatest convex function below all of them touches; `x` ascends."""
    xs, ys = x.tolist(), y.tolist()
    kept: list[int] = []
    for index in range(len(xs)):
        while len(kept) > 1 and _is_above(xs, ys, kept[-2], kept[-1], index):
            kept.pop()
        kept.append(index)
    return np.array(kept)


def _is_above(x: list[float], y: list[float], left: int, middle: int, right: int) -> bool:
    """Tell whether a point lies on or above the line through its two neighbours."""
    return (y[middle] - y[left]) * (x[right] - x[left]) >= (y[right] - y[left]) * (x[middle] - x[left])
