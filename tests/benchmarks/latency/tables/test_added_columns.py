"""A table of version 2 from before some columns came is read as it is, and gets them with the first addition."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_tables import row, sitting

from benchmarks.latency.table import latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.columns import ROW_COLUMNS
from benchmarks.latency.tables.records import ADDED_NAMES
from benchmarks.latency.tables.sources import read_records
from jetson.errors import CoopexportError

# As the code before those columns made it, dumped.
DUMP = Path(__file__).parents[3] / "data" / "latency_table_without_energy.sql"
HELD = [
    sitting(
        row("head", 3.0, flags=("drift: slower",), load_ms=12.5, peak_memory_bytes=1 << 33),
        row("encode", None, codec="rans"),
        reference_ms=0.5,
    ),
    sitting(row("head", 2.0), minute=1),
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "latency.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text())
        connection.execute("PRAGMA user_version = 2")
    return path


def schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_it_is_read_as_it_is_and_not_written_to(old: Path) -> None:
    before = old.read_bytes()
    assert list(read_records(old)) == HELD
    (found,) = latest(old)
    assert (found.p50_ms, found.energy_mj) == (2.0, None)
    assert old.read_bytes() == before


def test_the_first_addition_makes_it_what_a_new_table_is(old: Path, tmp_path: Path) -> None:
    energies = dict.fromkeys(ADDED_NAMES, 0.125)
    more = sitting(row("head", 2.5, **energies), minute=2)
    assert add_runs(old, [more]).rows == 1
    assert list(read_records(old)) == [*HELD, more]
    add_runs(tmp_path / "new.sqlite", [*HELD, more])
    assert schema(old) == schema(tmp_path / "new.sqlite")
    with closing(sqlite3.connect(old)) as connection:
        shown = connection.execute(f"SELECT {', '.join(ADDED_NAMES)} FROM measurements ORDER BY started_at").fetchall()
    assert shown == [(None,) * len(ADDED_NAMES)] * 3 + [(0.125,) * len(ADDED_NAMES)]


def test_an_addition_that_fails_leaves_it_as_it_was(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(CoopexportError, match="twice"):
        add_runs(old, [sitting(row("head"), row("head"), minute=2)])
    assert old.read_bytes() == before


@pytest.mark.parametrize("name", ADDED_NAMES)
def test_what_the_later_columns_say_is_in_the_checksum(old: Path, name: str) -> None:
    add_runs(old, [sitting(row("head", 2.5, **{name: 3.0}), minute=2)])
    for statement in (f"{name} = 4.0", f"{name} = NULL"):
        damaged = old.with_name("damaged.sqlite")
        damaged.write_bytes(old.read_bytes())
        with closing(sqlite3.connect(damaged)) as connection:
            connection.execute(f"UPDATE latencies SET {statement} WHERE {name} = 3.0")
            connection.commit()
        with pytest.raises(CoopexportError, match="is not what its checksum says"):
            latest(damaged)


def test_columns_that_came_later_are_the_last_of_a_row() -> None:
    assert tuple(ROW_COLUMNS)[-len(ADDED_NAMES) :] == ADDED_NAMES
