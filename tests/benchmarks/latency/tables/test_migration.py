"""A table of version 1 is read as it is, and becomes one of version 2 in the transaction of the first addition."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from small_runs import item, run_of

from benchmarks.latency.table import current_latencies, import_run, latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.sources import read_records
from jetson.errors import CoopexportError

# As coopexport 0.2.0 made it.
VERSION_1 = """
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
PRAGMA user_version = 1;
"""
RUNS = (
    ("first", "2026-08-01T09:00:00.000+00:00", "cpu", "here", "Some CPU", "onnxruntime", "1.19.0", 1, 2, 5),
    ("20260801T100000Z-00000000", "2026-08-01T10:00:00.000+00:00", "cpu", "here", "Some CPU", "onnxruntime", "1.20.0",
     1, 2, 5),
)  # fmt: skip
NEW = RUNS[1][0]
KEY = ("cpu", "pruned", "conv4_1")
ROWS = (
    ("first", *KEY, "tail", "", "fp32", 1, "sha of tail", "ok", None, 5, 9.0, None, None, 9.0, 0.5),
    (NEW, *KEY, "head", "", "fp32", 1, "sha of head", "ok", None, 5, 3.0, 5.0, None, 3.0, 0.47140452079103173),
    (NEW, *KEY, "encode", "raw", "fp32", 1, None, "failed", "it broke", None, None, None, None, None, None),
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "latency.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
        connection.executemany(f"INSERT INTO runs VALUES ({','.join('?' * 10)})", RUNS)
        connection.executemany(f"INSERT INTO latencies VALUES ({','.join('?' * 17)})", ROWS)
    connection.close()
    return path


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_old_rows(path: Path) -> None:
    (row,) = latest(path)
    assert (row.run, row.part, row.p50_ms, row.count, row.cv) == (NEW, "head", 3.0, 5, 0.47140452079103173)
    assert (row.source_sha256, row.p50_low_ms, row.factor, row.origin) == ("sha of head", None, None, "measured")
    assert current_latencies(path).failures == {(*KEY, "encode", "raw"): "it broke"}
    assert current_latencies(path).expired == {(*KEY, "tail", ""): "backend version was 1.19.0, is 1.20.0"}


def test_reading_leaves_an_old_table_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    check_old_rows(old)
    assert old.read_bytes() == before


def test_the_first_addition_migrates_and_keeps_every_value(old: Path) -> None:
    assert import_run(old, run_of(item("tail", samples_ms=(1.0,)), target="cuda", minute=5)) == 1
    assert version(old) == 2
    with sqlite3.connect(old) as connection:
        query = """
          SELECT run, started_at, target, host, processor, backend, backend_version, threads, warm_up, rounds FROM runs
          WHERE target = 'cpu' ORDER BY started_at"""
        assert tuple(connection.execute(query)) == RUNS
        query = """
          SELECT run, target, variant, layer, part, codec, precision, batch, source_sha256, status, reason, count,
            p50_ms, p90_ms, p99_ms, mean_ms, cv FROM measurements WHERE target = 'cpu' ORDER BY started_at, part DESC"""
        # What p90 was in version 1 is not what it is in version 2.
        assert tuple(connection.execute(query)) == tuple((*row[:13], None, None, *row[15:]) for row in ROWS)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [row.p50_ms for row in latest(old) if row.target == "cpu"] == [3.0]


def test_the_file_of_a_run_of_version_1_is_that_run(old: Path) -> None:
    run = run_of(item("head"), item("encode", codec="raw", failure="it broke", source_sha256=None))
    assert run.run == NEW
    assert import_run(old, run) == 0
    check_old_rows(old)


def test_an_addition_that_fails_leaves_version_1(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(CoopexportError, match="has a run 20260801T100000Z-00000000 already"):
        import_run(old, run_of(item("head", samples_ms=(8.0,))))
    assert old.read_bytes() == before
    check_old_rows(old)


def test_a_table_of_version_1_is_merged(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    added = add_runs(new, read_records(old))
    assert (added.runs, added.rows) == (2, 3)
    assert version(old) == 1
    check_old_rows(new)


@pytest.mark.parametrize(
    ("column", "value"), [("p50_ms", -3.0), ("started_at", "yesterday"), ("count", "many"), ("p50_ms", float("inf"))]
)
def test_a_wrong_value_in_version_1_is_named(old: Path, column: str, value: Any) -> None:
    with sqlite3.connect(old) as connection:
        where = "runs SET started_at" if column == "started_at" else f"latencies SET {column}"
        connection.execute(f"UPDATE {where} = ? WHERE run = ? AND {column} IS NOT NULL", (value, NEW))
    with pytest.raises(CoopexportError, match=rf"latency\.sqlite: run {NEW}: .*{column} holds .*expected "):
        latest(old)
