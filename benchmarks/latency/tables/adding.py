"""Adding runs to the latency table: each once, all or none, and nothing that is there changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.latency.tables.database import open_to_write
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun, key_values, part_key
from benchmarks.latency.tables.rows import Inserter, read_run
from jetson.errors import InputError

# What a run and its rows have in every version of the table, however their samples are summed up there.
_RUN_CORE = ("started_at", "target", "processor", "backend", "backend_version", "threads")
_ROW_CORE = ("source_sha256", "status", "reason", "count", "p50_ms")
# Says how a run came here, not what it is.
_NOT_COMPARED = ("file_sha256", "samples_sha256")


@dataclass(frozen=True)
class Added:
    """How many runs and rows are new in a table, and how many runs it had already."""

    runs: int = 0
    rows: int = 0
    known_runs: int = 0


def add_runs(path: Path, records: Iterable[RecordedRun]) -> Added:
    """Add runs to the table at `path`, creating it, in one transaction.

    `records`: with values that passed `columns.check_record`. A run that is there already adds nothing. Raises
    CoopexportError when a run of the same id with other content is there, a run names a part twice, or the table is
    damaged or cannot be written, and what `records` raises; then nothing changed.
    """
    added = Added()
    with open_to_write(path) as connection:
        inserter = Inserter(connection)
        for record in records:
            added = _add(connection, inserter, record, path, added)
    return added


def _add(connection: sqlite3.Connection, inserter: Inserter, record: RecordedRun, path: Path, added: Added) -> Added:
    run = record.run
    keys = list(map(key_values, record.rows))
    if len(set(keys)) < len(keys):
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        named = " ".join(str(value) for value in twice if value != "")
        raise InputError(f"run {run.run} has {named} twice", path=path, fix="a run has one row for each part")
    stored = read_run(connection, run.run, path)
    if stored is not None:
        difference = _difference(stored, record)
        if difference is not None:
            said = f"{path} has a run {run.run} already, and it is another: {difference}"
            raise InputError(said, path=path, fix="give one of the two another id")
        return Added(added.runs, added.rows, added.known_runs + 1)
    inserter.insert(record)
    return Added(added.runs + 1, added.rows + len(keys), added.known_runs)


def _difference(stored: RecordedRun, new: RecordedRun) -> str | None:
    """Return what tells two runs of one id apart, or None.

    Where samples are known on one side only, or the same on both, what is computed from them may differ: another
    version of the table, or of the statistics, has other columns.
    """
    digests = (stored.run.samples_sha256, new.run.samples_sha256)
    if None not in digests and digests[0] != digests[1]:
        return "its samples differ"
    by_value = digests == (None, None)
    run_names = tuple(field.name for field in fields(TableRun) if field.name not in _NOT_COMPARED)
    row_names = tuple(field.name for field in fields(TableRow))
    for name in run_names if by_value else _RUN_CORE:
        there, given = getattr(stored.run, name), getattr(new.run, name)
        if there != given:
            return f"{name} is {there}, not {given}"
    there_rows = {part_key("", row): row for row in stored.rows}
    given_rows = {part_key("", row): row for row in new.rows}
    if there_rows.keys() != given_rows.keys():
        return "it has other parts"
    for key, row in there_rows.items():
        for name in row_names if by_value else _ROW_CORE:
            there, given = getattr(row, name), getattr(given_rows[key], name)
            if there != given:
                return f"{name} of {' '.join(str(part) for part in key[1:4])} is {there}, not {given}"
    return None
