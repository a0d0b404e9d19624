"""The latency table: one SQLite file that runs are imported into, each once."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.statistics import summarise
from jetson.errors import DamagedFileError, InputError, StaleError

MAJOR_VERSION = 1
# Where a project keeps its table, in its output folder.
TABLE_FILE = "latency.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, started_at TEXT NOT NULL, target TEXT NOT NULL, host TEXT NOT NULL, processor TEXT NOT NULL,
  backend TEXT NOT NULL, backend_version TEXT NOT NULL, threads INTEGER NOT NULL, warm_up INTEGER NOT NULL,
  rounds INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS latencies (
  run TEXT NOT NULL REFERENCES runs(run), target TEXT NOT NULL, variant TEXT NOT NULL, layer TEXT NOT NULL,
  part TEXT NOT NULL, codec TEXT NOT NULL, precision TEXT NOT NULL, batch INTEGER NOT NULL, source_sha256 TEXT,
  status TEXT NOT NULL CHECK (status IN ('ok', 'failed')), reason TEXT,
  count INTEGER, p50_ms REAL, p90_ms REAL, p99_ms REAL, mean_ms REAL, cv REAL,
  PRIMARY KEY (run, variant, layer, part, codec, precision, batch),
  CHECK ((status = 'ok') = (p50_ms IS NOT NULL)), CHECK ((status = 'failed') = (reason IS NOT NULL))
);
"""


@dataclass(frozen=True)
class Latency:
    """One row that succeeded: the median of one part, and what it was measured on."""

    run: str
    target: str
    variant: str
    layer: str
    part: str
    codec: str
    source_sha256: str | None
    count: int
    p50_ms: float
    cv: float


def import_run(path: Path, run: LatencyRun) -> int:
    """Add a run to the table at `path`, creating it; return the number of new rows (0 when it was there already).

    One transaction: all rows or none. Raises CoopexportError when the file is not a latency table or cannot be written.
    """
    with _open(path) as connection, connection:
        if connection.execute("SELECT 1 FROM runs WHERE run = ?", (run.run,)).fetchone():
            return 0
        connection.execute(
            "INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                run.run, run.started_at, run.target, str(run.host.get("name", "")), str(run.host.get("processor", "")),
                run.backend, run.backend_version, run.threads, run.warm_up, run.rounds,
            ),
        )  # fmt: skip
        rows = [_row(run, item) for item in run.items]
        connection.executemany("INSERT INTO latencies VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        return len(rows)


def _row(run: LatencyRun, item: RunItem) -> tuple[object, ...]:
    key = (
        run.run, run.target, item.variant, item.layer, item.part, item.codec or "", item.precision, item.batch,
        item.source_sha256,
    )  # fmt: skip
    if item.samples_ms is None:
        return (*key, "failed", item.failure, None, None, None, None, None, None)
    summary = summarise(item.samples_ms)
    return (
        *key, "ok", None, summary.count, summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.mean_ms, summary.cv,
    )  # fmt: skip


def latest(path: Path) -> list[Latency]:
    """Return, for each part, the row of its newest run, where that succeeded.

    A part that failed in its newest run has no latency: an older number says nothing about what fails now. Runs are
    comparable only when they were taken alike: of each target, those with the processor, number of threads and version
    of the backend of its newest run. Rows of larger batches or other precisions are left out. Raises CoopexportError
    when there is no table.
    """
    return [Latency(*row[:-2]) for row in _newest(path) if row[-1] == "ok"]


def failures(path: Path) -> dict[tuple[str, str, str, str, str], str]:
    """Return why each part that failed in its newest run did so, by target, variant, layer, part and codec.

    Raises CoopexportError when there is no table.
    """
    return {row[1:6]: row[-2] for row in _newest(path) if row[-1] == "failed"}


def _newest(path: Path) -> list[tuple[Any, ...]]:
    """Return the newest row of each part: the columns of `Latency`, then reason and status."""
    if not path.is_file():
        raise StaleError(f"there is no latency table {path}", path=path, fix="fill it with: coopexport bench")
    query = """
      SELECT r.processor, r.threads, r.backend_version,
             l.run, l.target, variant, layer, part, codec, source_sha256, count, p50_ms, cv, reason, status
      FROM latencies l JOIN runs r ON l.run = r.run
      WHERE precision = 'fp32' AND batch = 1 ORDER BY r.started_at, r.run
    """
    with _open(path) as connection:
        rows = [(row[:3], row[3:]) for row in connection.execute(query)]
    settings = {row[1]: setting for setting, row in rows}  # of each target's newest run
    return list({row[1:6]: row for setting, row in rows if setting == settings[row[1]]}.values())


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the table; remove the file again if it did not exist and nothing could be stored in it."""
    existed = path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=30)
        with contextlib.closing(connection):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if version == 0 and tables and "latencies" not in tables:
                raise InputError(f"{path} is a database, but no latency table", path=path, fix="check the path")
            if version == 0:
                script = f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {MAJOR_VERSION}; COMMIT;"
                connection.executescript(script)
            elif version != MAJOR_VERSION:
                raise DamagedFileError(
                    f"{path} is a latency table of version {version}, this version reads {MAJOR_VERSION}", path=path
                )
            yield connection
    except sqlite3.Error as error:
        if not existed:
            for left in (path, path.with_name(path.name + "-journal")):
                with contextlib.suppress(OSError):
                    left.unlink()
        raise DamagedFileError(
            f"latency table {path}: {error}", path=path, fix="check the disk, or delete the file"
        ) from None
