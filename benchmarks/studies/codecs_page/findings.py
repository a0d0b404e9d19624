"""What the codec benchmark shows: whether each bound holds, with the numbers as measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.studies.codecs_page.measure import Case, Measured

# A message may take this much of the ideal order-0 code, and so many bytes above.
ENTROPY_FACTOR = 1.02
OVERHEAD_BYTES = 16
LEAST_SYMBOLS = 1000
# What takes this many times as long is not compared in bytes at the shallow cuts.
SLOW_FACTOR = 10.0
# The codecs that the bounds are about.
RANS_CODERS = ("rans, C", "rans-context, C")


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


def findings(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return one sentence per bound, the cases that miss it named."""
    without_c = [case.name for case in cases if ours(case) is None]
    if without_c:
        return (f"Not judged: rANS in C did not run on {', '.join(without_c)}.",)
    counted = [case for case in cases if case.symbols_per_sample >= LEAST_SYMBOLS]
    return (
        _entropy(counted),
        _pareto(counted),
        _shallow([case for case in counted if case.depth.shallow]),
        _python(counted),
    )


def _own(case: Case) -> Measured:
    row = ours(case)
    assert row is not None  # findings() has looked
    return row


def excess_bytes(case: Case, row: Measured) -> float:
    """Return by how much the worst message of `row` is above the bound, in bytes; 0 or less: it holds for each."""
    return max(
        size - (ENTROPY_FACTOR * ideal + OVERHEAD_BYTES)
        for size, ideal in zip(row.sizes_bytes, case.cross_entropies_bytes, strict=True)
    )


def _entropy(cases: Sequence[Case]) -> str:
    missed = []
    for case in cases:
        excess = excess_bytes(case, _own(case))
        if excess > 0:
            missed.append(f"{case.name} (by {excess:.1f} bytes)")
    order_0 = [
        size - ideal
        for case in cases
        for row in case.measured
        if row.coder == "rans, C"
        for size, ideal in zip(row.sizes_bytes, case.cross_entropies_bytes, strict=True)
    ]
    bound = f"{ENTROPY_FACTOR} x the static order-0 model's cross-entropy + {OVERHEAD_BYTES} bytes"
    said = f"Every single message is at most {bound}: " + _verdict(len(cases), missed)
    if order_0:
        said += (
            f" Messages of codec rans alone are {min(order_0):.1f} to {max(order_0):.1f} bytes above that "
            "cross-entropy, everything included."
        )
    return said


def _pareto(cases: Sequence[Case]) -> str:
    missed = []
    for case in cases:
        on_front = front(case)
        if not any(row.coder in RANS_CODERS for row in on_front):
            better = next(other for other in on_front if _dominates(other, _own(case)))
            missed.append(f"{case.name} (beaten by {better.coder})")
    return "One of rans and rans-context is on the Pareto front of bytes and time: " + _verdict(len(cases), missed)


def _shallow(cases: Sequence[Case]) -> str:
    missed = []
    for case in cases:
        own = _own(case)
        for row in case.measured:
            if not row.own and row.mean_bytes <= own.mean_bytes and row.total_us < SLOW_FACTOR * own.total_us:
                missed.append(
                    f"{case.name} ({row.coder}: {row.mean_bytes:,.0f} to {own.mean_bytes:,.0f} bytes in "
                    f"{row.total_us / own.total_us:.1f} times the time)"
                )
    smaller = [
        f"{row.coder} on {case.name} ({row.mean_bytes / _own(case).mean_bytes - 1:+.1%} bytes, "
        f"{row.total_us / _own(case).total_us:.0f} times the time)"
        for case in cases
        for row in case.measured
        if not row.own and row.mean_bytes <= _own(case).mean_bytes and row.total_us >= SLOW_FACTOR * _own(case).total_us
    ]
    said = (
        f"At the shallow cuts it is smaller than every other coder that does not take {SLOW_FACTOR:g} times as long: "
    )
    said += _verdict(len(cases), missed)
    if smaller:
        said += f" Smaller, but slower than that: {', '.join(smaller)}."
    return said


def _python(cases: Sequence[Case]) -> str:
    ratios, larger = [], []
    for case in cases:
        by_name = {row.coder: row for row in case.measured}
        for name in ("rans", "rans-context"):
            fast, slow = by_name.get(f"{name}, C"), by_name.get(f"{name}, Python")
            if fast and slow:
                ratios.append(slow.total_us / fast.total_us)
                larger += [case.name] if fast.sizes_bytes != slow.sizes_bytes else []
    if not ratios:
        return "The Python form was not measured."
    said = f"Plain Python takes {min(ratios):.0f} to {max(ratios):.0f} times as long as C"
    return f"{said}, for the same bytes." if not larger else f"{said}; its sizes differ on {', '.join(larger)}."


def _verdict(count: int, missed: Sequence[str]) -> str:
    if not count:
        return "not judged, for want of cases."
    if not missed:
        return f"**holds** in all {count} cases."
    return f"**does not hold** for {', '.join(missed)}, of {count} cases."
