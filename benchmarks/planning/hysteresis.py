"""How far a choice is held on to when the goodput moves, so that it never flaps at a boundary.

The rule is a relative margin, as for the handover of a mobile from cell to cell (3GPP TS 36.331, event A3: the new cell
is better than the old one by an offset): a choice is left only where another one is better by more than the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.planning.columns import Floats, Indices, Lines
from benchmarks.planning.envelope import Chain


def stay_ranges(lines: Lines, chain: Chain, margin: float) -> tuple[Floats, Floats]:
    """Return from which up to which goodput each line of a chain is at most `margin` (a share) over the least.

    Two float64 arrays of the chain's length, in bits per second; each range holds the line's own interval. The chain is
    concave in 1 / goodput, so that a line's excess over `1 + margin` times the chain is convex, and the goodputs where
    it is not above 0 are one range. Found by bisection over the intervals, for all lines at once.
    """
    fixed_ms, slope = lines.fixed_ms[chain.lines], lines.slope[chain.lines]
    count = len(chain.lines)
    own, factor = np.arange(count), 1.0 + margin
    with np.errstate(all="ignore"):
        # Where interval k begins, in seconds per bit; the one after the last begins at infinite goodput.
        begins = np.append(1.0 / chain.from_bps, 0.0)

        def within(interval: Indices, x: Floats) -> NDArray[np.bool_]:
            return fixed_ms + slope * x <= factor * (fixed_ms[interval] + slope[interval] * x)

        def leaves(interval: Indices) -> Floats:
            return (factor * fixed_ms[interval] - fixed_ms) / (slope - factor * slope[interval])

        lowest = _reach(own, np.zeros_like(own), -1, lambda k: within(k, begins[k + 1]))
        highest = _reach(own, np.full_like(own, count - 1), 1, lambda k: within(k, begins[k]))
        rising = slope > factor * slope[lowest]
        from_x = np.where(rising, np.minimum(leaves(lowest), begins[lowest]), begins[lowest])
        above = fixed_ms > factor * fixed_ms[highest]
        upto_x = np.where(above, np.maximum(leaves(highest), begins[highest + 1]), begins[highest + 1])
        from_bps, upto_bps = 1.0 / from_x, 1.0 / upto_x
    return np.minimum(from_bps, chain.from_bps), np.maximum(upto_bps, chain.upto_bps)


def _reach(
    own: Indices, last: Indices, step: Literal[-1, 1], within: Callable[[Indices], NDArray[np.bool_]]
) -> Indices:  # fmt: skip
    """Return the interval farthest from `own`, towards `last`, that `within` still holds for; it holds for `own`."""
    near, far = own, last
    while (near != far).any():
        middle = (near + far + (step > 0)) // 2
        holds = within(middle) | (middle == own)
        near, far = np.where(holds, middle, near), np.where(holds, far, middle - step)
    return near
