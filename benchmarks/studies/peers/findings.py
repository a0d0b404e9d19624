"""What the side-by-side run shows, in sentences whose numbers are the measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.studies.peers.memory import COOPEXPORT
from benchmarks.studies.peers.rows import PEAK_TARGET, Measured, NotMeasured, Row

_CONSTANT = {
    "weight": "a batch norm makes a constant of a filter of zeros, and it is dropped with the channel",
    "channel": "a batch norm further on makes a constant of the zeros, and it is dropped with the channel",
}
_TIED = "live channels go with the masked ones that they are tied to"


def findings(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return what the rows show: the targets, then the other tools against this one."""
    own = [row for row in rows if isinstance(row, Measured) and row.tool == COOPEXPORT]
    others = [row for row in rows if isinstance(row, Measured) and row.tool != COOPEXPORT]
    found = [*_targets(own)] if own else []
    for tool in sorted(dict.fromkeys(row.tool for row in others)):
        found += _tool([row for row in others if row.tool == tool], own)
    return (*found, *_failures([row for row in rows if isinstance(row, NotMeasured)]))


def _targets(own: Sequence[Measured]) -> Iterable[str]:
    slow = {
        _case(row): f"{row.median_s:.2f} s ({row.processor_s:.2f} s of the processor)"
        for row in own
        if row.median_s > row.subject.target_s
    }
    yield _target("time", len(own), slow)
    peaks = {_case(row): row.peak_ratio for row in own if row.peak_ratio is not None}
    if peaks:
        yield _target(
            "memory", len(peaks), {case: f"{peak:.2f}x" for case, peak in peaks.items() if peak > PEAK_TARGET}
        )
    worst = max(own, key=lambda row: row.error_float64)
    equal = sum(row.is_equal for row in own)
    yield (
        f"{COOPEXPORT} computes what the masked network computes in {equal} of {len(own)} cases; its largest error in "
        f"float64 is {worst.error_float64:.1e} of the outputs' spread, on {_case(worst)}."
    )


def _target(what: str, count: int, missed: Mapping[str, str]) -> str:
    said = f"{COOPEXPORT} meets the target for {what} in {count - len(missed)} of {count} cases"
    if not missed:
        return f"{said}."
    return f"{said}; it misses it on {', '.join(f'{case} {value}' for case, value in missed.items())}."


def _tool(rows: Sequence[Measured], own: Sequence[Measured]) -> Iterable[str]:
    """Say where a tool computes the same, what it leaves there and how long it takes, all against coopexport."""
    name = rows[0].tool
    for meaning in dict.fromkeys(row.subject.meaning for row in rows):
        of_meaning = [row for row in rows if row.subject.meaning == meaning]
        wrong = [row for row in of_meaning if not row.is_equal]
        said = f"{name}, masks of meaning `{meaning}`: computes the same in {len(of_meaning) - len(wrong)} of "
        said += f"{len(of_meaning)} cases"
        if wrong:
            off = _range([row.error_float64 for row in wrong])
            said += f"; elsewhere it is off by {off} times the outputs' spread"
            said += f" without a word: {_TIED if 'any' in name else _CONSTANT[meaning]}"
        yield f"{said}."
    by_subject = {row.subject: row for row in own}
    pairs = [(row, by_subject[row.subject]) for row in rows if row.subject in by_subject]
    if not pairs:
        return
    said = f"{name} takes {_range([row.median_s / mine.median_s for row, mine in pairs])} times as long as {COOPEXPORT}"
    larger = [(row, mine) for row, mine in pairs if row.is_equal and row.parameters > 1.001 * mine.parameters]
    if larger:
        listed = ", ".join(f"{_case(row)} {row.parameters / mine.parameters:.2f}x" for row, mine in larger)
        said += f"; where it computes the same, it leaves more parameters on {listed}"
    yield f"{said}."


def _failures(rows: Sequence[NotMeasured]) -> Iterable[str]:
    by_reason: dict[str, list[NotMeasured]] = {}
    for row in rows:
        by_reason.setdefault(row.reason, []).append(row)
    for reason, found in by_reason.items():
        tools = " and ".join(dict.fromkeys(row.tool for row in found))
        yield f"{tools}: no result on {', '.join(dict.fromkeys(map(_case, found)))}: {reason}."


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _case(row: Row) -> str:
    return f"{row.subject.network} (`{row.subject.meaning}`)"
