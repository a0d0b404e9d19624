"""What the command `table` prints: rows with a mark each, and below the table the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coopexport.output import print_table

if TYPE_CHECKING:
    from benchmarks.latency.tables.differences import Difference
    from benchmarks.latency.tables.newest import JudgedRow
    from benchmarks.latency.tables.project_table import DiffResult, ShowResult
    from benchmarks.latency.tables.records import TableRow

_MOST_REASONS = 20
_COLUMNS = ["variant", "cut", "part", "median ms", "95 % interval", "p90 ms", "samples", "started", "mark"]


def print_rows(result: ShowResult) -> None:
    """Print a table for each target, and below it why rows are marked."""
    targets: dict[str, list[JudgedRow]] = {}
    for found in result.rows:
        targets.setdefault(found.run.target, []).append(found)
    for target, rows in targets.items():
        what = "all rows" if result.history else "the newest row of each part"
        print_table(f"Target {target}: {what}", _COLUMNS, [_cells(found) for found in rows], left=3)
        reasons: dict[str, list[str]] = {}
        for found in rows:
            for reason in _reasons(found):
                reasons.setdefault(reason, []).append(_name(found.row))
        lines = [f"{reason}: {_few(names)}" for reason, names in reasons.items()]
        for line in lines[:_MOST_REASONS]:
            click.echo(line)
        if len(lines) > _MOST_REASONS:
            click.echo(f"and {len(lines) - _MOST_REASONS} more reasons; --variant or --layer shows fewer rows")


def print_differences(result: DiffResult) -> None:
    """Print how each part of B compares with A, what got slowest first."""
    rows = [_difference_cells(item) for item in result.differences]
    columns = ["target", "variant", "cut", "part", "A ms", "B ms", "B / A", "compared by", "verdict"]
    print_table(f"B {result.after} against A {result.before}", columns, rows, left=4)
    verdicts = [item.verdict for item in result.differences]
    click.echo(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)))


def _cells(found: JudgedRow) -> tuple[str, ...]:
    row = found.row
    interval = "" if row.p50_low_ms is None else f"{row.p50_low_ms:.4f} to {row.p50_high_ms:.4f}"
    return (
        row.variant,
        row.layer,
        _part(row),
        _ms(row.p50_ms),
        interval,
        _ms(row.p90_ms),
        "" if row.count is None else str(row.count),
        found.run.started_at[:16],
        _mark(found),
    )


def _mark(found: JudgedRow) -> str:
    """Return the row's mark: what it is if it is not current, SHIFTED, flagged, or brought by somebody."""
    marks: list[str] = [] if found.state == "current" else [found.state]
    if found.shift is not None:
        marks.append("SHIFTED")
    if found.row.flags:
        marks.append("flagged")
    if found.run.origin == "imported":
        marks.append("imported")
    return ", ".join(marks)


def _reasons(found: JudgedRow) -> list[str]:
    """Return why a row is marked, so that rows marked for the same reason share it."""
    reasons = [f"{found.state}: {found.reason}"] if found.reason else []
    if found.shift is not None:
        reasons.append(found.shift.text)
    return reasons + list(found.row.flags)


def _difference_cells(item: Difference) -> tuple[str, ...]:
    run, row = item.sitting
    sides = [None if side is None else side[1] for side in (item.before, item.after)]
    times = ["" if side is None else "failed" if side.status == "failed" else _ms(side.p50_ms) for side in sides]
    factor = "" if item.factor is None else f"{item.factor:.3f}"
    compared = "" if item.factor is None else "reference" if item.by_reference else "milliseconds"
    return (run.target, row.variant, row.layer, _part(row), *times, factor, compared, item.verdict)


def _part(row: TableRow) -> str:
    more = [row.codec, "" if row.precision == "fp32" else row.precision, "" if row.batch == 1 else f"batch {row.batch}"]
    return " ".join([row.part, *filter(None, more)])


def _name(row: TableRow) -> str:
    return f"{row.variant} {row.layer} {_part(row)}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
