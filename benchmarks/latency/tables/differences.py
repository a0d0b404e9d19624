"""What got slower or faster between two tables, runs or sittings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.latency.tables.comparison import difference
from benchmarks.latency.tables.database import open_to_read
from benchmarks.latency.tables.newest import newest_rows
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun, part_key
from benchmarks.latency.tables.rows import read_run
from benchmarks.latency.tables.sources import is_recorded_file, read_records
from jetson.errors import InputError

Verdict = Literal["slower", "faster", "same", "not judged", "failed", "only in A", "only in B"]
Sitting = tuple[TableRun, TableRow]


@dataclass(frozen=True)
class Difference:
    """One part in A and in B. `factor`: B over A, None where one has no median.

    `by_reference`: whether `factor` compares ratios to the reference that both ran, in the place of milliseconds.
    `verdict`: "slower" and "faster" only beyond both intervals; "not judged" where there is no interval.
    """

    before: Sitting | None
    after: Sitting | None
    factor: float | None
    by_reference: bool
    verdict: Verdict

    @property
    def sitting(self) -> Sitting:
        """Return one of the two that names the part."""
        found = self.after or self.before
        if found is None:
            raise ValueError("a difference has a side")
        return found


def differences(before: str, after: str, table: Path | None) -> list[Difference]:
    """Return how the parts of A and B differ, what got slowest first.

    A and B: files (a table's current rows and failures, or the runs in a file of another kind), or the beginnings of
    the ids of runs in the table at `table`. Parts go by their targets unless each side has one: then two devices are
    compared. Raises CoopexportError when a file cannot be read or there is no such run.
    """
    sides = [_sittings(side, table) for side in (before, after)]
    targets = [{run.target for run, _ in side} for side in sides]
    by_target = any(len(found) != 1 for found in targets)
    parts = [{part_key(run.target if by_target else "", row): (run, row) for run, row in side} for side in sides]
    keys = dict.fromkeys([*parts[0], *parts[1]])
    return sorted((_compared(parts[0].get(key), parts[1].get(key)) for key in keys), key=_order)


def _compared(before: Sitting | None, after: Sitting | None) -> Difference:
    if before is None or after is None:
        return Difference(before, after, None, False, "only in B" if before is None else "only in A")
    found = difference(before, after)
    if found is None:
        failed = "failed" in (before[1].status, after[1].status)
        return Difference(before, after, None, False, "failed" if failed else "not judged")
    factor, by_reference, is_beyond = found
    verdict: Verdict = "not judged" if is_beyond is None else "same"
    if is_beyond:
        verdict = "slower" if factor > 1 else "faster"
    return Difference(before, after, factor, by_reference, verdict)


def _order(item: Difference) -> tuple[int, float]:
    return (1, 0.0) if item.factor is None else (0, -math.log(item.factor))


def _sittings(side: str, table: Path | None) -> list[Sitting]:
    """Return the rows of a side; of runs in one file, a later one replaces an earlier one's rows."""
    if not is_recorded_file(side):
        return _rows_of([_run_in(table, side)])
    path = Path(side)
    if path.suffix.lower() == ".sqlite":
        return [(found.run, found.row) for found in newest_rows(path) if found.state != "expired"]
    return _rows_of(sorted(read_records(path), key=lambda record: record.run.started_at))


def _rows_of(records: Iterable[RecordedRun]) -> list[Sitting]:
    return [(record.run, row) for record in records for row in record.rows]


def _run_in(table: Path | None, beginning: str) -> RecordedRun:
    """Return the one run of a table whose id begins so."""
    if table is None:
        raise InputError(f"'{beginning}' is no file of runs", fix="name one, or work in a project to name its runs")
    with open_to_read(table) as connection:
        ids = [row[0] for row in connection.execute("SELECT run FROM runs ORDER BY started_us DESC, run DESC")]
        found = [run for run in ids if run.startswith(beginning)] if beginning not in ids else [beginning]
        if len(found) != 1:
            which = f"{len(found)} runs of {table} begin with" if found else f"no run of {table} begins with"
            fix = f"its runs: {', '.join((found or ids)[:5])}" + (", ..." if len(found or ids) > 5 else "")
            raise InputError(f"{which} '{beginning}'", path=table, fix=fix)
        record = read_run(connection, found[0], table)
    if record is None:
        raise InputError(f"no run of {table} is called '{found[0]}'", path=table)
    return record
