"""Rows of the latency table into SQLite and out of it, each with a checksum over all that it says."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from benchmarks.latency.tables.columns import ROW_COLUMNS
from benchmarks.latency.tables.expiry import provenance_of, setting_of
from benchmarks.latency.tables.records import (
    ADDED_NAMES,
    KEY_NAMES,
    ROW_NAMES,
    RUN_NAMES,
    RecordedRun,
    TableRow,
    TableRun,
    microseconds_of,
    row_values,
    run_values,
)
from jetson.errors import DamagedFileError

FILL_AGAIN = "take a copy that is whole, or delete it and fill it again from its runs' files: coopexport table add"
_KEYS = len(KEY_NAMES)
_FIRST = len(ROW_NAMES) - len(ADDED_NAMES)  # columns of the first tables of this version, which come first
_IS_NUMBER = tuple(ROW_COLUMNS[name].sql == "REAL" for name in ROW_NAMES[:_FIRST])
_NUMBERS_OF = itemgetter(*(index for index, is_number in enumerate(_IS_NUMBER) if is_number))
_OTHERS_OF = itemgetter(*(index for index, is_number in enumerate(_IS_NUMBER) if not is_number))
_SAME = ROW_NAMES.index("reason")  # from here on rows of a part differ from run to run
_REST_OF = itemgetter(*(index for index, is_number in enumerate(_IS_NUMBER) if not is_number and index >= _SAME))
_PACK = struct.Struct(f"<{sum(_IS_NUMBER)}d").pack
_NOTHING_ADDED = (None,) * len(ADDED_NAMES)
_UNKNOWN = float("nan")
_FLAGS = ROW_NAMES.index("flags")
_TRUTHS = tuple(RUN_NAMES.index(name) for name in ("steady", "interleaved", "in_chains"))
_KEY_LIST = ", ".join(KEY_NAMES)
_INSERT_RUN = f"""
INSERT INTO runs ({", ".join(RUN_NAMES)}, started_us, setting, checksum)
VALUES ({", ".join("?" * (len(RUN_NAMES) + 3))})"""
_INSERT_PART = f"""
INSERT INTO parts (target, {_KEY_LIST}) VALUES ({", ".join("?" * (_KEYS + 1))})"""
_PART_ID = f"SELECT id FROM parts WHERE target = ? AND {' AND '.join(f'{name} = ?' for name in KEY_NAMES)}"
_INSERT_ROW = f"""
INSERT INTO latencies (run_id, part_id, setting, started_us, {", ".join(ROW_NAMES[_KEYS:])}, checksum)
VALUES (?, ?, ?, ?, {", ".join("?" * (len(ROW_NAMES) - _KEYS + 1))})"""
# What `row_of` takes, for a query over `latencies AS l JOIN parts AS p JOIN runs AS r`.
ROW_SELECTION = ", ".join(
    ("r.run", "p.target", "l.started_us", *(f"p.{name}" for name in KEY_NAMES),
     *(f"l.{name}" for name in ROW_NAMES[_KEYS:]), "l.checksum")
)  # fmt: skip
# What `run_of` takes, for a query over `runs AS r`.
RUN_SELECTION = ", ".join((*(f"r.{name}" for name in RUN_NAMES), "r.checksum"))
RUN_WIDTH = len(RUN_NAMES) + 1


class Inserter:
    """Inserts runs into one table, in the transaction that is open; remembers what their rows have in common."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # By target and what stays the same from run to run, the part's key, its graph and "ok": the part's number, and
        # how the text begins that the checksum of such a row is over.
        self._parts: dict[str, dict[tuple[Any, ...], tuple[int, str]]] = {}

    def insert(self, record: RecordedRun) -> None:
        """Insert a run that is not there yet, and its rows; raises sqlite3.Error.

        All values must have passed `columns.check_record`.
        """
        run = record.run
        started_us, setting = microseconds_of(run.started_at), setting_of(provenance_of(run))
        values = _stored_run(run)
        cursor = self._connection.execute(_INSERT_RUN, (*values, started_us, setting, _checksum(values)))
        run_id, target, head = cursor.lastrowid, run.target, _checksum((run.run, run.target, started_us))
        parts = self._parts.setdefault(target, {})
        rows = []
        for row in record.rows:
            stored = _stored_row(row)
            same = tuple(stored[:_SAME])
            found = parts.get(same)
            if found is None:
                found = parts[same] = self._part_id((target, *same[:_KEYS])), repr(same)[:-1]
            part_id, begin = found
            text = f"{begin}, {repr(_REST_OF(stored))[1:]}"  # as of one tuple
            checksum = zlib.crc32(_packed(_NUMBERS_OF(stored)), zlib.crc32(text.encode(), head))
            rows.append((run_id, part_id, setting, started_us, *stored[_KEYS:], _with_added(stored, checksum)))
        self._connection.executemany(_INSERT_ROW, rows)

    def _part_id(self, key: tuple[Any, ...]) -> int:
        row = self._connection.execute(_PART_ID, key).fetchone()
        if row is None:
            self._connection.execute(_INSERT_PART, key)
            row = self._connection.execute(_PART_ID, key).fetchone()
        return int(row[0])


def _checksum(values: tuple[Any, ...], before: int = 0) -> int:
    """Return the CRC-32 of values as Python writes them, of floats the shortest digits; `before`: of what precedes."""
    return zlib.crc32(repr(values).encode(), before)


def _packed(numbers: tuple[float | None, ...]) -> bytes:
    """Return numbers as IEEE 754 doubles, in half the time that their digits take, what is not known as NaN.

    Raises struct.error or OverflowError for what is none.
    """
    if None in numbers:
        numbers = tuple([_UNKNOWN if value is None else value for value in numbers])
    return _PACK(*numbers)


def _row_checksum(stored: Sequence[Any], head: int) -> int:
    """Return the CRC-32 of a row, -1 where it cannot have one; `head`: that of its run's id, target and start."""
    try:
        numbers = _packed(_NUMBERS_OF(stored))
    except (struct.error, OverflowError):  # of a damaged row
        return -1
    return _with_added(stored, zlib.crc32(numbers, _checksum(_OTHERS_OF(stored), head)))


def _with_added(stored: Sequence[Any], checksum: int) -> int:
    """Return the checksum of a row out of that of its first columns.

    Of the columns that came later nothing goes in where all are empty: rows of the first tables have the one they had.
    """
    added = tuple(stored[_FIRST:])
    return checksum if added == _NOTHING_ADDED else _checksum(added, checksum)


def row_of(values: Sequence[Any] | None, path: object) -> TableRow:
    """Return the row in what `ROW_SELECTION` selects; raises DamagedFileError when its checksum is another.

    So is None where an index said that there is a row.
    """
    if values is None:
        raise _damaged(path, "a row that its index names is missing")
    if _row_checksum(values[3:-1], _checksum(tuple(values[:3]))) != values[-1]:
        raise _damaged(path, f"row {' '.join(map(str, values[:8]))} is not what its checksum says")
    found = list(values[3:-1])
    if found[_FLAGS] is None:
        found[_FLAGS] = ()
    else:
        found[_FLAGS] = tuple(json.loads(found[_FLAGS]))
    return TableRow(*found)


def run_of(values: Sequence[Any] | None, path: object) -> TableRun:
    """Return the run in what `RUN_SELECTION` selects; raises DamagedFileError as `row_of` does."""
    if values is None:
        raise _damaged(path, "a run that its rows name is missing")
    if _checksum(tuple(values[:-1])) != values[-1]:
        raise _damaged(path, f"run {values[0]} is not what its checksum says")
    found = list(values[:-1])
    for index in _TRUTHS:
        found[index] = None if found[index] is None else bool(found[index])
    return TableRun(*found)


def read_runs(connection: sqlite3.Connection, path: object) -> Iterator[RecordedRun]:
    """Yield all runs with their rows, the earliest first; raises CoopexportError when one is damaged."""
    runs = connection.execute(f"SELECT id, {RUN_SELECTION} FROM runs r ORDER BY started_us, run")
    query = f"""
      SELECT {ROW_SELECTION} FROM latencies l JOIN parts p ON p.id = l.part_id JOIN runs r ON r.id = l.run_id
      WHERE l.run_id = ? ORDER BY l.part_id"""
    for run_id, *values in runs:
        rows = tuple(row_of(found, path) for found in connection.execute(query, (run_id,)))
        yield RecordedRun(run_of(values, path), rows)


def read_run(connection: sqlite3.Connection, run: str, path: object) -> RecordedRun | None:
    """Return one run with its rows, or None; raises CoopexportError when it is damaged."""
    query = f"""
      SELECT {ROW_SELECTION} FROM runs r JOIN latencies l ON l.run_id = r.id JOIN parts p ON p.id = l.part_id
      WHERE r.run = ? ORDER BY l.part_id"""
    found = connection.execute(f"SELECT {RUN_SELECTION} FROM runs r WHERE run = ?", (run,)).fetchone()
    if found is None:
        return None
    rows = tuple(row_of(values, path) for values in connection.execute(query, (run,)))
    return RecordedRun(run_of(found, path), rows)


def _stored_run(run: TableRun) -> tuple[Any, ...]:
    values = list(run_values(run))
    for index in _TRUTHS:
        values[index] = None if values[index] is None else int(values[index])
    return tuple(values)


def _stored_row(row: TableRow) -> list[Any]:
    stored = list(row_values(row))
    flags = stored[_FLAGS]
    stored[_FLAGS] = json.dumps(flags, ensure_ascii=False) if flags else None
    return stored


def _damaged(path: object, what: str) -> DamagedFileError:
    return DamagedFileError(f"latency table {path} is damaged: {what}", path=path, fix=FILL_AGAIN)
