"""From windows, in which bytes arrived, to a goodput: when it is steady, its median, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# So many windows in a row within this spread (range over median) are steady. Slow start, which doubles from one round
# trip to the next, gives no such row. Six are the fewest that give a 95 % interval at all.
STEADY_WINDOWS = 8
STEADY_SPREAD = 0.1
CONFIDENCE = 0.95


class Window(NamedTuple):
    """Bytes that arrived, and the seconds from the arrival before them to the last of them."""

    bytes: int
    seconds: float

    @property
    def bps(self) -> float:
        """Return bits per second."""
        return 8 * self.bytes / self.seconds


@dataclass(frozen=True)
class Goodput:
    """Median over the windows that are kept, and its 95 % interval (None below six windows).

    `reason`: why it is not steady, empty if it is.
    """

    median_bps: float
    low_bps: float | None
    high_bps: float | None
    kept: int
    reason: str = ""


def is_steady(windows: Sequence[Window]) -> bool:
    """Tell whether the last windows are as fast as each other."""
    last = [window.bps for window in windows[-STEADY_WINDOWS:]]
    return len(last) == STEADY_WINDOWS and _spread(last) <= STEADY_SPREAD


def goodput_of(windows: Sequence[Window]) -> Goodput:
    """Return the goodput of at least one window.

    Of a steady row the last windows count. If it never became steady, all count from the first one on that reaches the
    median of all: what came before is slow start.
    """
    rates = [window.bps for window in windows]
    if is_steady(windows):
        kept, reason = rates[-STEADY_WINDOWS:], ""
    else:
        middle = statistics.median(rates)
        kept = rates[next(index for index, rate in enumerate(rates) if rate >= middle) :]
        reason = f"the last {STEADY_WINDOWS} windows spread by {100 * _spread(rates[-STEADY_WINDOWS:]):.0f} %"
        if len(rates) < STEADY_WINDOWS:
            reason = f"there are only {len(rates)} windows"
    interval = median_interval(kept)
    low, high = (None, None) if interval is None else interval
    return Goodput(statistics.median(kept), low, high, len(kept), reason)


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return two of `values` between which the true median lies with at least 95 % confidence; None if there are none.

    From order statistics, for whatever distribution: the number of values below the median is binomial with 1/2
    (Conover, Practical Nonparametric Statistics, 3.2).
    """
    ordered, count = sorted(values), len(values)
    below, outside = 0, 0.0
    for rank in range(count):
        outside += math.comb(count, rank) * 0.5**count
        if 2 * outside > 1 - CONFIDENCE:
            break
        below = rank + 1
    return (ordered[below - 1], ordered[count - below]) if below else None


def _spread(rates: Sequence[float]) -> float:
    return (max(rates) - min(rates)) / statistics.median(rates)
