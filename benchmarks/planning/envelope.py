"""The lower envelope: which of many latencies is least at each goodput, and how far each stays near the least.

With x = 1 / goodput every latency is a straight line, so that the least at each x is a concave chain of lines: the
vertices of the lower left convex hull of the points (slope, fixed time). Sorting and one pass find it (Andrew 1979,
"Another efficient algorithm for convex hulls in two dimensions"). Turns that float64 cannot decide are decided in
rational numbers, so that the chain is exact for the lines as given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.planning.columns import Floats, Indices, Lines

# A difference of two products of rounded differences is off by less than this, relative to the sum of both ...
_UNCERTAIN = 8.0 * float(np.finfo(np.float64).eps)
# ... where the products are above this, so that they have their full precision.
_LEAST_PRODUCT = 1e-290
# Thinning by whole arrays goes on while a round takes out this share; what is left goes point by point.
_WORTH_A_ROUND = 0.1


@dataclass(frozen=True)
class Chain:
    """Lines in the order in which they are least, from the lowest goodput to the highest.

    `lines`: their numbers, int64 of length k; `from_bps`: where each begins in bits per second, float64 of length k,
    strictly rising from 0. Each ends where the next begins, the last at infinity.
    """

    lines: Indices
    from_bps: Floats

    @property
    def upto_bps(self) -> Floats:
        """Where each ends, in bits per second; the last is infinity."""
        return np.append(self.from_bps[1:], np.inf)


def lower_envelope(lines: Lines) -> Chain:
    """Return which line is least at each goodput; finite numbers only, at least one line.

    Of lines that are the same, the one with the smaller loss, then the first. Where a line is least at one goodput
    only, it has no interval.
    """
    order = _hull(lines, _staircase(lines))
    fixed_ms, slope = lines.fixed_ms[order], lines.slope[order]
    with np.errstate(all="ignore"):
        x = (fixed_ms[:-1] - fixed_ms[1:]) / (slope[1:] - slope[:-1])
        from_bps = np.append(0.0, np.where(x > 0, 1.0 / x, np.inf))
    # Rounding may put a switch before the last one, or at 0 or infinity: then nothing lies between them. Seen from the
    # highest goodput, a line ends where the one after it begins.
    begins = np.minimum.accumulate(from_bps[::-1])[::-1]
    kept = begins < np.append(begins[1:], np.inf)
    return Chain(order[kept], begins[kept])


def _staircase(lines: Lines) -> Indices:
    """Return the lines that no other beats in both numbers, by rising slope and strictly falling fixed time."""
    lowest = lines.fixed_ms == lines.fixed_ms.min()
    flattest = lines.slope[lowest].min()  # steeper lines than this one are never less
    rows = np.flatnonzero(lines.slope <= flattest)
    # One key first, all three for the few that are left: two sorts of everything would take most of the time.
    rows = rows[np.argsort(lines.slope[rows], kind="stable")]
    fixed_ms = lines.fixed_ms[rows]
    rows = rows[fixed_ms <= np.minimum.accumulate(fixed_ms)]
    # Stable: of lines that are the same, the first stays before the others.
    rows = rows[np.lexsort((lines.loss_points[rows], lines.fixed_ms[rows], lines.slope[rows]))]
    fixed_ms = lines.fixed_ms[rows]
    before = np.append(np.inf, np.minimum.accumulate(fixed_ms)[:-1])
    return np.asarray(rows[fixed_ms < before], dtype=np.int64)


def _hull(lines: Lines, order: Indices) -> Indices:
    """Return the points of a staircase that are corners of its lower left convex hull, in the same order."""
    order = _thinned(lines, order)
    slope, fixed_ms = lines.slope[order].tolist(), lines.fixed_ms[order].tolist()
    kept: list[int] = []
    for point in range(len(order)):
        while len(kept) >= 2 and not _is_corner(slope, fixed_ms, kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return order[kept]


def _thinned(lines: Lines, order: Indices) -> Indices:
    """Return the points without those that certainly lie above the line from one neighbour to the other."""
    while len(order) > 2:
        slope, fixed_ms = lines.slope[order], lines.fixed_ms[order]
        with np.errstate(all="ignore"):
            run, fall = np.diff(slope), -np.diff(fixed_ms)
            left, right = fall[:-1] * run[1:], fall[1:] * run[:-1]
            above = (right > _LEAST_PRODUCT) & (right - left > _UNCERTAIN * (left + right))
        if above.sum() < _WORTH_A_ROUND * len(order):
            return order
        order = order[np.append(True, np.append(~above, True))]
    return order


def _is_corner(slope: list[float], fixed_ms: list[float], a: int, b: int, c: int) -> bool:
    """Tell whether point b lies below the line from a to c; exact."""
    left = (fixed_ms[a] - fixed_ms[b]) * (slope[c] - slope[b])
    right = (fixed_ms[b] - fixed_ms[c]) * (slope[b] - slope[a])
    # An overflow or underflow decides nothing.
    full = _LEAST_PRODUCT < left < math.inf and _LEAST_PRODUCT < right < math.inf
    if full and abs(left - right) > _UNCERTAIN * (left + right):
        return left > right
    a_slope, b_slope, c_slope = (Fraction(slope[i]) for i in (a, b, c))
    a_ms, b_ms, c_ms = (Fraction(fixed_ms[i]) for i in (a, b, c))
    return (a_ms - b_ms) * (c_slope - b_slope) > (b_ms - c_ms) * (b_slope - a_slope)
