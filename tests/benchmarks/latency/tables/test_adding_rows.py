"""Rows that share all but their numbers with earlier ones are read back as they were added, by their checksums."""

from __future__ import annotations

from pathlib import Path

from small_tables import row, sitting

from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.sources import read_records


def test_what_is_remembered_between_runs_changes_nothing(tmp_path: Path) -> None:
    runs = [
        sitting(
            row("head", 1.0 + minute),
            row("encode", 2.0 + minute, codec="rans", p90_ms=None if minute % 2 else 3.0, cv=0.01 * minute),
            row("tail", 3.0, flags=("drift",) if minute == 2 else ()),
            row("whole", None if minute == 3 else 4.0),
            row("whole", 4.0, variant="other", peak_memory_bytes=minute, source_sha256=None if minute == 1 else "a"),
            minute=minute,
            target="cpu" if minute < 5 else "board",
        )
        for minute in range(7)
    ]
    path = tmp_path / "latency.sqlite"
    assert add_runs(path, runs[:4]).rows == 20
    assert add_runs(path, runs[2:]).rows == 15
    found = {record.run.run: record for record in read_records(path)}  # each row's checksum is looked at
    assert {name: (one.run, set(one.rows)) for name, one in found.items()} == {
        one.run.run: (one.run, set(one.rows)) for one in runs
    }
