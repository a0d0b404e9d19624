"""The bounds that the codecs are held against, and in which cases each one holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.studies.codecs_page.measure import Case, Measured

# A message may take this much of the ideal order-0 code, and so many bytes above.
ENTROPY_FACTOR = 1.02
OVERHEAD_BYTES = 16
MIN_SYMBOLS = 1000
# What takes this many times as long is not compared in bytes at the shallow cuts.
SLOW_FACTOR = 10.0
# The codecs that the bounds are about.
RANS_CODERS = ("rans, C", "rans-context, C")


@dataclass(frozen=True)
class Bound:
    """A bound in words, the names of the cases that it was judged on, and of those that miss it.

    No cases: it was not judged, for want of cases or because rANS in C did not run.
    """

    text: str
    cases: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def holds(self) -> bool | None:
        """Tell whether it holds in all cases; None where there are none."""
        return not self.missed if self.cases else None


def ours(case: Case) -> Measured | None:
    """Return the smaller of this project's two codecs in C, or None where C could not run."""
    found = [row for row in case.measured if row.coder in RANS_CODERS]
    return min(found, key=lambda row: row.mean_bytes) if found else None


def front(case: Case) -> tuple[Measured, ...]:
    """Return the rows that no other row beats in bytes without taking longer, or in time without taking more bytes."""
    return tuple(row for row in case.measured if not any(_dominates(other, row) for other in case.measured))


def _dominates(other: Measured, row: Measured) -> bool:
    no_worse = other.mean_bytes <= row.mean_bytes and other.total_us <= row.total_us
    return no_worse and (other.mean_bytes < row.mean_bytes or other.total_us < row.total_us)


def bounds(cases: Sequence[Case]) -> tuple[Bound, ...]:
    """Return all bounds; cases of fewer than `MIN_SYMBOLS` symbols do not count."""
    counted = [case for case in cases if case.symbols_per_sample >= MIN_SYMBOLS]
    if any(ours(case) is None for case in cases):
        counted = []
    shallow = [case for case in counted if case.depth.shallow]
    return (
        _bound(
            f"every message at most {ENTROPY_FACTOR} x the order-0 cross-entropy + {OVERHEAD_BYTES} bytes",
            counted,
            lambda case, own: excess_bytes(case, own) <= 0,
        ),
        _bound(
            "rans or rans-context on the Pareto front of bytes and time",
            counted,
            lambda case, own: any(row.coder in RANS_CODERS for row in front(case)),
        ),
        _bound(
            f"at the shallow cuts smaller than every other coder that takes less than {SLOW_FACTOR:g} times as long",
            shallow,
            _is_smallest,
        ),
        _bound("the same bytes in plain Python as in C", counted, _is_same_in_python),
    )


def _bound(text: str, cases: Sequence[Case], is_kept: Callable[[Case, Measured], bool]) -> Bound:
    judged = [(case, own) for case in cases if (own := ours(case)) is not None]
    return Bound(
        text,
        tuple(case.name for case, _ in judged),
        tuple(case.name for case, own in judged if not is_kept(case, own)),
    )


def excess_bytes(case: Case, row: Measured) -> float:
    """Return by how much the worst message of `row` is above the bound, in bytes; 0 or less: it holds for each."""
    return max(
        size - (ENTROPY_FACTOR * ideal + OVERHEAD_BYTES)
        for size, ideal in zip(row.sizes_bytes, case.cross_entropies_bytes, strict=True)
    )


def _is_smallest(case: Case, own: Measured) -> bool:
    return not any(
        not row.own and row.mean_bytes <= own.mean_bytes and row.total_us < SLOW_FACTOR * own.total_us
        for row in case.measured
    )


def _is_same_in_python(case: Case, own: Measured) -> bool:
    sizes = {row.coder: row.sizes_bytes for row in case.measured}
    return all(sizes.get(f"{name}, Python") == sizes.get(f"{name}, C") for name in ("rans", "rans-context"))
