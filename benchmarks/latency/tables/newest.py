"""The newest row of every part, or every row, and whether it is current: what one asks the table for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.latency.tables.comparison import Shift, reference_factor, shift_between
from benchmarks.latency.tables.database import open_to_read
from benchmarks.latency.tables.expiry import Provenance, expiry_reason, provenance_of, setting_of
from benchmarks.latency.tables.records import PartKey, TableRow, TableRun, microseconds_of, part_key
from benchmarks.latency.tables.rows import FILL_AGAIN, ROW_SELECTION, RUN_SELECTION, read_runs, row_of, run_of
from jetson.errors import DamagedFileError

State = Literal["current", "failed", "expired", "older"]
# By variant, layer, part, codec ("" for none) and precision: the graph that there is now.
Graphs = Mapping[tuple[str, str, str, str, str], str]


@dataclass(frozen=True)
class JudgedRow:
    """The newest row of a part, of a run that was taken as its target's newest one; of any run where there is none.

    `state`: "current"; "failed", with the row's own reason; or "expired", with `reason`: what changed since. `factor`:
    the reference's median in the target's newest run over that in the row's own run, None without a reference in both:
    times it, a median is what that newest run would have measured. `shift`: against the sitting before it.
    """

    run: TableRun
    row: TableRow
    state: State
    reason: str | None = None
    factor: float | None = None
    shift: Shift | None = None


def newest_rows(
    path: Path, precision: str | None = None, batch: int | None = None, graphs: Graphs | None = None
) -> list[JudgedRow]:
    """Return the newest row of every part in the table at `path`; `precision`, `batch`: of those alone.

    Newest is by the start of the run, however runs came into the table; a target's newest run is its newest measured
    one, or imported one where none was measured. With `graphs`, a row of another graph than the one there is expired.
    Raises CoopexportError when there is no table, or it is damaged.
    """
    with open_to_read(path) as connection:
        reader = _Reader(connection, path)
        targets = [row[0] for row in connection.execute("SELECT DISTINCT target FROM runs ORDER BY target")]
        return [row for target in targets for row in reader.of_target(target, precision, batch, graphs or {})]


# Of a part, by the index; runs of one start go by their ids.
_NEWEST = "ORDER BY n.started_us DESC, m.run DESC LIMIT 1"
# The sitting before that a median is compared with: of the same part, taken alike, on the same graph.
_BEFORE = f"""
  SELECT n.run_id FROM latencies n JOIN runs m ON m.id = n.run_id
  WHERE n.part_id = l.part_id AND n.setting = l.setting AND n.started_us <= l.started_us
    AND (n.started_us < l.started_us OR m.run < r.run)
    AND n.source_sha256 IS l.source_sha256 AND n.p50_low_ms IS NOT NULL AND l.p50_low_ms IS NOT NULL {_NEWEST}"""
_ASKED = "p.target = :target AND p.precision = ifnull(:precision, p.precision) AND p.batch = ifnull(:batch, p.batch)"
_RUN_OF_SETTING = f"""
  SELECT n.run_id FROM latencies n JOIN runs m ON m.id = n.run_id
  WHERE n.part_id = p.id AND n.setting = :setting {_NEWEST}"""
_OF_SETTING = f"""
  SELECT l.run_id, l.part_id, ({_BEFORE}), {ROW_SELECTION}
  FROM parts p JOIN latencies l ON l.part_id = p.id JOIN runs r ON r.id = l.run_id
  WHERE {_ASKED} AND l.run_id = ({_RUN_OF_SETTING}) ORDER BY l.part_id"""
_RUNS_OF_SETTING = f"SELECT p.id, ({_RUN_OF_SETTING}) FROM parts p WHERE {_ASKED}"
_ROW = f"""
  SELECT {ROW_SELECTION} FROM latencies l JOIN parts p ON p.id = l.part_id JOIN runs r ON r.id = l.run_id
  WHERE l.run_id = ? AND l.part_id = ?"""
_NEWEST_RUN = f"""
  SELECT {RUN_SELECTION} FROM runs r
  WHERE r.target = ? AND r.origin = ? AND EXISTS (SELECT 1 FROM latencies l WHERE l.run_id = r.id)
  ORDER BY r.started_us DESC, r.run DESC LIMIT 1"""


class _Reader:
    """Reads rows out of one table; each run is read once."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._runs: dict[int, TableRun] = {}

    def of_target(self, target: str, precision: str | None, batch: int | None, graphs: Graphs) -> Iterator[JudgedRow]:
        now = self._newest_run(target)
        if now is None:
            return
        setting = setting_of(provenance_of(now))
        asked = {"target": target, "precision": precision, "batch": batch, "setting": setting}
        found = set()
        for run_id, part_id, before_id, *values in self._connection.execute(_OF_SETTING, asked):
            found.add(part_id)
            run, row = self._run(run_id), row_of(values, self._path)
            yield self._judged(run, row, now, graphs, None if before_id is None else (before_id, part_id))
        parts = {row[0] for row in self._connection.execute(f"SELECT p.id FROM parts p WHERE {_ASKED}", asked)}
        if found == parts:
            return
        others = self._newest_of_others(asked)
        for part_id in sorted(parts - found):
            run_id = others.get(part_id)
            run = now if run_id is None else self._run(run_id)
            reason = expiry_reason(provenance_of(run), provenance_of(now))
            if run_id is None or reason is None:  # each part came with a row, and each row with its run's setting
                said = f"latency table {self._path} is damaged: its index does not find every part of {target}"
                raise DamagedFileError(said, path=self._path, fix=FILL_AGAIN)
            yield JudgedRow(run, self._row(run_id, part_id), "expired", reason)

    def _newest_of_others(self, asked: Mapping[str, object]) -> dict[int, int]:
        """Return by part the newest run of another setting, setting by setting: an index has them in that order."""
        query = "SELECT DISTINCT setting FROM runs WHERE target = :target AND setting != :setting"
        found: dict[int, int] = {}
        for (setting,) in self._connection.execute(query, asked).fetchall():
            for part_id, run_id in self._connection.execute(_RUNS_OF_SETTING, {**asked, "setting": setting}):
                if run_id is not None and self._start(run_id) > self._start(found.get(part_id)):
                    found[part_id] = run_id
        return found

    def _start(self, run_id: int | None) -> tuple[int, str]:
        """Return what runs are sorted by; what there is not comes before all."""
        if run_id is None:
            return (-(1 << 63), "")
        run = self._run(run_id)
        return (microseconds_of(run.started_at), run.run)

    def _judged(
        self, run: TableRun, row: TableRow, now: TableRun, graphs: Graphs, before: tuple[int, int] | None
    ) -> JudgedRow:
        """Return a row taken as the newest run was; `before`: numbers of run and part of the sitting before."""
        graph = graphs.get((row.variant, row.layer, row.part, row.codec, row.precision))
        then = provenance_of(run, row.source_sha256)
        reason = None if graph is None else expiry_reason(then, provenance_of(now, graph))
        if reason is not None:
            return JudgedRow(run, row, "expired", reason)
        if row.status == "failed":
            return JudgedRow(run, row, "failed", row.reason)
        shift = None
        if before is not None:
            shift = shift_between((self._run(before[0]), self._row(*before)), (run, row))
        return JudgedRow(run, row, "current", None, reference_factor(run, now), shift)

    def _newest_run(self, target: str) -> TableRun | None:
        for origin in ("measured", "imported"):
            found = self._connection.execute(_NEWEST_RUN, (target, origin)).fetchone()
            if found is not None:
                return run_of(found, self._path)
        return None

    def _row(self, run_id: int, part_id: int) -> TableRow:
        return row_of(self._connection.execute(_ROW, (run_id, part_id)).fetchone(), self._path)

    def _run(self, run_id: int) -> TableRun:
        if run_id not in self._runs:
            query = f"SELECT {RUN_SELECTION} FROM runs r WHERE r.id = ?"
            self._runs[run_id] = run_of(self._connection.execute(query, (run_id,)).fetchone(), self._path)
        return self._runs[run_id]


def all_rows(
    path: Path, is_wanted: Callable[[TableRun, TableRow], bool], graphs: Graphs | None = None
) -> list[JudgedRow]:
    """Return the rows of the table at `path` that are wanted, part by part, each part's newest first.

    Rows that a newer one replaced are "older" where they would still count, else "expired". Raises CoopexportError when
    there is no table, or it is damaged.
    """
    newest = {(row.run.run, part_key(row.run.target, row.row)): row for row in newest_rows(path, graphs=graphs)}
    found: dict[PartKey, list[JudgedRow]] = {}
    before: dict[tuple[PartKey, Provenance], tuple[TableRun, TableRow]] = {}
    with open_to_read(path) as connection:
        now = _newest_runs(tuple(record.run for record in read_runs(connection, path) if record.rows))
        for record in read_runs(connection, path):  # the earliest first
            for row in record.rows:
                if not is_wanted(record.run, row):
                    continue
                key = part_key(record.run.target, row)
                judged = newest.get((record.run.run, key))
                sitting = (key, provenance_of(record.run, row.source_sha256))
                shift = None
                if row.p50_low_ms is not None:
                    earlier = before.get(sitting)
                    shift = None if earlier is None else shift_between(earlier, (record.run, row))
                    before[sitting] = (record.run, row)
                if judged is None:
                    judged = _replaced(record.run, row, now[record.run.target], shift)
                found.setdefault(key, []).append(judged)
    return [row for rows in found.values() for row in reversed(rows)]


def _newest_runs(runs: tuple[TableRun, ...]) -> dict[str, TableRun]:
    """Return each target's newest measured run, or imported one where none was measured; `runs`: earliest first."""
    imported = {run.target: run for run in runs}
    return {**imported, **{run.target: run for run in runs if run.origin == "measured"}}


def _replaced(run: TableRun, row: TableRow, now: TableRun, shift: Shift | None) -> JudgedRow:
    reason = expiry_reason(provenance_of(run), provenance_of(now))
    if reason is not None:
        return JudgedRow(run, row, "expired", reason)
    if row.status == "failed":
        return JudgedRow(run, row, "failed", row.reason)
    return JudgedRow(run, row, "older", None, reference_factor(run, now), shift)
