"""Whether two medians of one part differ by more than their intervals, and through the reference where both have it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchmarks.latency.tables.records import TableRow, TableRun

# Of two networks in the same rounds the ratio stayed within 3 % in 19 of 20 sittings whose medians spread by 16 to
# 44 %, while intervals within a sitting were narrower: a ratio that moved by less says nothing.
RATIO_TOLERANCE = 0.03
Cause = Literal["part", "machine", "unknown"]


@dataclass(frozen=True)
class Shift:
    """A median that is not where an earlier sitting had it: marked SHIFTED.

    `before`: the earlier sitting's run. `factor`: the median over the earlier one; `ratio_factor`: the same of the
    ratios to the reference, None where the two have no reference in common. `cause`: "part" where the ratio moved too,
    "machine" where it held, "unknown" without a reference.
    """

    before: str
    factor: float
    ratio_factor: float | None
    cause: Cause

    @property
    def text(self) -> str:
        """Return the mark with its reason, in one line."""
        moved = f"SHIFTED: {self.factor:.2f} times run {self.before}"
        if self.ratio_factor is None:
            return f"{moved}; the two have no reference in common: the part or the machine changed"
        if self.cause == "part":
            return f"{moved}, and {self.ratio_factor:.2f} times beside the reference: the part changed"
        return f"{moved}, but {self.ratio_factor:.2f} times beside the reference: the machine changed"


@dataclass(frozen=True)
class _Median:
    """A positive median with its interval, in any unit."""

    low: float
    middle: float
    high: float

    def over(self, other: _Median) -> _Median:
        """Return the ratio; its interval as of independent errors, which add in quadrature on a logarithmic scale."""
        ratio = self.middle / other.middle
        down = math.hypot(math.log(self.middle / self.low), math.log(other.high / other.middle))
        up = math.hypot(math.log(self.high / self.middle), math.log(other.middle / other.low))
        return _Median(ratio * math.exp(-down), ratio, ratio * math.exp(up))

    def differs(self, other: _Median) -> bool:
        """Tell whether the distance of the two is more than either interval explains: they do not meet."""
        return self.low > other.high or self.high < other.low


def shift_between(before: tuple[TableRun, TableRow], after: tuple[TableRun, TableRow]) -> Shift | None:
    """Return how the median of a part moved from one sitting to a later one, or None.

    None where the intervals of the two medians meet, or one has none. Both rows have to be of one part and provenance.
    """
    then, now = _median(before[1]), _median(after[1])
    if then is None or now is None or not now.differs(then):
        return None
    ratio_then, ratio_now = through_reference(before, after)
    factor = now.middle / then.middle
    if ratio_then is None or ratio_now is None:
        return Shift(before[0].run, factor, None, "unknown")
    moved = _moved(ratio_then, ratio_now)
    return Shift(before[0].run, factor, ratio_now.middle / ratio_then.middle, "part" if moved else "machine")


def difference(
    before: tuple[TableRun, TableRow], after: tuple[TableRun, TableRow]
) -> tuple[float, bool, bool | None] | None:
    """Return by what factor a part got slower, whether through the reference, and whether that is beyond chance.

    Through the reference where both runs have the same one: then "beyond chance" also takes more than
    `RATIO_TOLERANCE`. The last is None where an interval is not known. None where a median is missing or 0.
    """
    ratio_then, ratio_now = through_reference(before, after)
    if ratio_then is not None and ratio_now is not None:
        return ratio_now.middle / ratio_then.middle, True, _moved(ratio_then, ratio_now)
    if not before[1].p50_ms or not after[1].p50_ms:
        return None
    then, now = _median(before[1]), _median(after[1])
    return after[1].p50_ms / before[1].p50_ms, False, None if then is None or now is None else now.differs(then)


def reference_factor(then: TableRun, now: TableRun) -> float | None:
    """Return the reference's median now over then: what scales a median of then to now's sitting; None without one."""
    if then.reference_sha256 is None or then.reference_sha256 != now.reference_sha256:
        return None
    if not then.reference_p50_ms or not now.reference_p50_ms:
        return None
    return now.reference_p50_ms / then.reference_p50_ms


def through_reference(
    before: tuple[TableRun, TableRow], after: tuple[TableRun, TableRow]
) -> tuple[_Median, _Median] | tuple[None, None]:
    """Return the ratios of two medians to the reference of their own runs; Nones where they have not the same one."""
    if reference_factor(before[0], after[0]) is None:
        return None, None
    medians = [_median(before[1]), _reference(before[0]), _median(after[1]), _reference(after[0])]
    then, reference_then, now, reference_now = medians
    if then is None or reference_then is None or now is None or reference_now is None:
        return None, None
    return then.over(reference_then), now.over(reference_now)


def _moved(then: _Median, now: _Median) -> bool:
    return now.differs(then) and abs(math.log(now.middle / then.middle)) > math.log(1 + RATIO_TOLERANCE)


def _median(row: TableRow) -> _Median | None:
    return _positive(row.p50_low_ms, row.p50_ms, row.p50_high_ms)


def _reference(run: TableRun) -> _Median | None:
    return _positive(run.reference_p50_low_ms, run.reference_p50_ms, run.reference_p50_high_ms)


def _positive(low: float | None, middle: float | None, high: float | None) -> _Median | None:
    return _Median(low, middle, high) if low and middle and high else None
