"""The schema of the latency table, and how a table of version 1 becomes one of version 2."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from benchmarks.latency.tables.columns import ROW_COLUMNS, RUN_COLUMNS
from benchmarks.latency.tables.records import ADDED_NAMES, KEY_NAMES, RecordedRun, TableRow, TableRun

MAJOR_VERSION = 2
_VALUE_NAMES = tuple(name for name in ROW_COLUMNS if name not in KEY_NAMES)
_FIRST_NAMES = tuple(name for name in _VALUE_NAMES if name not in ADDED_NAMES)


def _columns(names: tuple[str, ...], kinds: dict[str, str]) -> str:
    return ", ".join(f"{name} {kinds[name]}" for name in names)


_RUN_SQL = {name: kind.sql for name, kind in RUN_COLUMNS.items()}
_ROW_SQL = {name: kind.sql for name, kind in ROW_COLUMNS.items()}
# `setting`: shared by runs that were taken alike (expiry.py); `started_us`: microseconds since 1970, UTC. A row has
# both, so that the index alone finds the newest one of a part among those taken alike. `checksum`: CRC-32 of what the
# row says (rows.py), since SQLite does not notice a flipped bit in a number. Columns that came later stand behind it,
# where ALTER TABLE puts them: so a new table and one that got them later have the same SQL.
_VIEW = f"""CREATE VIEW measurements AS
SELECT {", ".join(f"runs.{name}" for name in RUN_COLUMNS)}, {", ".join(f"parts.{name}" for name in KEY_NAMES)},
  {", ".join(f"latencies.{name}" for name in _VALUE_NAMES)}
FROM latencies JOIN runs ON runs.id = latencies.run_id JOIN parts ON parts.id = latencies.part_id"""
TABLES = (
    f"""CREATE TABLE runs (
  id INTEGER PRIMARY KEY, {_columns(tuple(RUN_COLUMNS), _RUN_SQL)},
  started_us INTEGER NOT NULL, setting INTEGER NOT NULL, checksum INTEGER NOT NULL, UNIQUE (run)
)""",
    "CREATE INDEX runs_by_start ON runs (target, started_us, run)",
    f"""CREATE TABLE parts (
  id INTEGER PRIMARY KEY, target TEXT NOT NULL, {_columns(KEY_NAMES, _ROW_SQL)},
  UNIQUE (target, {", ".join(KEY_NAMES)})
)""",
    f"""CREATE TABLE latencies (
  run_id INTEGER NOT NULL REFERENCES runs (id), part_id INTEGER NOT NULL REFERENCES parts (id),
  setting INTEGER NOT NULL, started_us INTEGER NOT NULL, {_columns(_FIRST_NAMES, _ROW_SQL)},
  checksum INTEGER NOT NULL, {_columns(ADDED_NAMES, _ROW_SQL)}, PRIMARY KEY (run_id, part_id),
  CHECK (status IN ('ok', 'failed')), CHECK ((status = 'ok') = (p50_ms IS NOT NULL)), CHECK (p50_ms >= 0),
  CHECK ((status = 'failed') = (reason IS NOT NULL))
) WITHOUT ROWID""",
    "CREATE INDEX latencies_by_part ON latencies (part_id, setting, started_us)",
    # For people: each row with its run and its part.
    _VIEW,
)
_TABLES_OF_VERSION_1 = (
    """CREATE TABLE runs (
  run TEXT PRIMARY KEY, started_at TEXT NOT NULL, target TEXT NOT NULL, host TEXT NOT NULL, processor TEXT NOT NULL,
  backend TEXT NOT NULL, backend_version TEXT NOT NULL, threads INTEGER NOT NULL, warm_up INTEGER NOT NULL,
  rounds INTEGER NOT NULL
)""",
    """CREATE TABLE latencies (
  run TEXT NOT NULL REFERENCES runs(run), target TEXT NOT NULL, variant TEXT NOT NULL, layer TEXT NOT NULL,
  part TEXT NOT NULL, codec TEXT NOT NULL, precision TEXT NOT NULL, batch INTEGER NOT NULL, source_sha256 TEXT,
  status TEXT NOT NULL CHECK (status IN ('ok', 'failed')), reason TEXT,
  count INTEGER, p50_ms REAL, p90_ms REAL, p99_ms REAL, mean_ms REAL, cv REAL,
  PRIMARY KEY (run, variant, layer, part, codec, precision, batch),
  CHECK ((status = 'ok') = (p50_ms IS NOT NULL)), CHECK ((status = 'failed') = (reason IS NOT NULL))
)""",
)


def has_schema(connection: sqlite3.Connection, version: int) -> bool:
    """Tell whether the tables and indices of `version` are there as it makes them; others may be there too.

    Of this version with or without columns that came later.
    """
    if version == 1:
        return _objects_of(1) <= _objects(connection)
    return missing_columns(connection) is not None


def missing_columns(connection: sqlite3.Connection) -> tuple[str, ...] | None:
    """Return the columns that came later and that a table of this version lacks; None for one of something else."""
    found = _objects(connection)
    for count in range(len(ADDED_NAMES), -1, -1):
        if _objects_of(MAJOR_VERSION, count) <= found:
            return ADDED_NAMES[count:]
    return None


def add_columns(connection: sqlite3.Connection) -> None:
    """Add the columns that came later, empty, in the transaction that is open."""
    for name in missing_columns(connection) or ():
        connection.execute(f"ALTER TABLE latencies ADD COLUMN {name} {_ROW_SQL[name]}")
    connection.execute("DROP VIEW IF EXISTS measurements")
    connection.execute(_VIEW)


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of this version, in the transaction that is open."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {MAJOR_VERSION}")


def take_version_1(connection: sqlite3.Connection) -> list[RecordedRun]:
    """Return all that a table of version 1 holds, and drop its tables, in the transaction that is open.

    Version 1 kept neither intervals nor power mode, driver, reference, or how samples were interleaved. Its higher
    percentiles, the samples' own, are left out: now they are bounds that hold with a confidence.
    """
    records = list(_records_of_version_1(connection))
    connection.execute("DROP TABLE latencies")
    connection.execute("DROP TABLE runs")
    return records


def _records_of_version_1(connection: sqlite3.Connection) -> Iterator[RecordedRun]:
    runs = connection.execute(
        "SELECT run, started_at, target, host, processor, backend, backend_version, threads, warm_up, rounds FROM runs"
    ).fetchall()
    for run, started_at, target, *texts, threads, warm_up, rounds in runs:
        host, processor, backend, backend_version = (text or None for text in texts)
        table_run = TableRun(
            run, started_at, target, "measured", host, processor, backend, backend_version, threads,
            warm_up=warm_up, rounds=rounds,
        )  # fmt: skip
        names = (
            "variant", "layer", "part", "codec", "precision", "batch", "source_sha256", "status", "reason", "count",
            "p50_ms", "mean_ms", "cv",
        )  # fmt: skip
        query = f"SELECT {', '.join(names)} FROM latencies WHERE run = ?"
        rows = (TableRow(**dict(zip(names, values, strict=True))) for values in connection.execute(query, (run,)))
        yield RecordedRun(table_run, tuple(rows))


@functools.cache
def _objects_of(version: int, added: int = 0) -> frozenset[tuple[str, str]]:
    """Return name and SQL of what a version makes; `added`: with how many of the columns that came later."""
    absent = "".join(f", {_columns((name,), _ROW_SQL)}" for name in ADDED_NAMES[added:])
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _TABLES_OF_VERSION_1 if version == 1 else TABLES[:-1]:
            connection.execute(statement.replace(f"{absent}, PRIMARY KEY (run_id", ", PRIMARY KEY (run_id"))
        return _objects(connection)


def _objects(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Return name and SQL of what the tables of ours may be made of."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type != 'view'")
    return frozenset((str(name), str(sql)) for name, sql in rows)
