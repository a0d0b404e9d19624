"""A damaged table is refused in one line: what it still says was in it."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_tables import row, sitting
from tests_support import unshare_command

from benchmarks.latency.table import latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.newest import newest_rows
from benchmarks.latency.tables.records import RecordedRun
from benchmarks.latency.tables.sources import read_records
from jetson.errors import CoopexportError, DamagedFileError, InputError

RUNS = [
    sitting(*(row(f"part {index}", 1.0 + index, flags=("drift",)) for index in range(12)), minute=minute)
    for minute in range(3)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "latency.sqlite"
    add_runs(path, RUNS)
    return path


def refusals(path: Path) -> list[CoopexportError]:
    """Return what reading and merging the table, and adding to it, refuse."""
    found = []
    uses: tuple[Callable[[], object], ...] = (
        lambda: latest(path),
        lambda: list(read_records(path)),
        lambda: add_runs(path, [sitting(row(), minute=9)]),
    )
    for use in uses:
        with pytest.raises(CoopexportError) as refused:
            use()
        assert "\n" not in str(refused.value)
        found.append(refused.value)
    return found


def test_a_row_of_a_run_that_is_not_there_is_not_passed_over(table: Path) -> None:
    with contextlib.closing(sqlite3.connect(table)) as connection:
        connection.execute("UPDATE latencies SET run_id = 9 WHERE run_id = 3 AND part_id = 12")
        connection.commit()
    with pytest.raises(DamagedFileError, match="is damaged: a row names a run or a part that is not there"):
        list(read_records(table))


def test_a_flipped_bit_never_makes_another_row(table: Path) -> None:
    """It may hide that a row is the newest, where it hits the index that `latest` goes by; not from a merge."""
    whole = table.read_bytes()
    parts = len(latest(table))
    genuine = [(record.run, one) for record in read_records(table) for one in record.rows]
    flips, found = random.Random(1), []
    for _ in range(150):
        place = flips.randrange(len(whole))
        table.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << flips.randrange(8)]) + whole[place + 1 :])
        refused = 0
        try:
            rows = newest_rows(table)
            assert len(rows) == parts
            assert all((one.run, one.row) in genuine for one in rows), place
        except CoopexportError as error:
            assert "\n" not in str(error)
            refused += 1
        try:
            assert [(record.run, one) for record in read_records(table) for one in record.rows] == genuine, place
        except CoopexportError as error:
            assert "\n" not in str(error)
            refused += 1
        found.append(refused > 0)
    assert sum(found) > 20  # the rest of the file is free space, and what no query reads


def test_a_changed_number_is_found_by_its_checksum(table: Path) -> None:
    with sqlite3.connect(table) as connection:
        connection.execute("UPDATE latencies SET p50_ms = 2.5 WHERE p50_ms = 2.0")
    with pytest.raises(DamagedFileError, match=r"is damaged: row .* part 1 .* is not what its checksum says; take a"):
        latest(table)


def test_a_changed_power_mode_is_found_by_its_checksum(table: Path) -> None:
    with sqlite3.connect(table) as connection:
        connection.execute("UPDATE runs SET power_mode = '15W'")
    with pytest.raises(DamagedFileError, match=r"is damaged: run 2026.* is not what its checksum says"):
        latest(table)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_table_is_refused(table: Path, kept: float) -> None:
    whole = table.read_bytes()
    table.write_bytes(whole[: int(kept * len(whole))])
    for refusal in refusals(table):
        assert "latency table" in str(refusal)


@pytest.mark.parametrize("text", ["run,started_at\n" * 90, "{}", "SQLite format 3\0"])
def test_a_text_is_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "latency.sqlite"
    path.write_text(text)
    for refusal in refusals(path):
        assert "file is not a database" in str(refusal)
    assert path.read_text() == text


def test_an_empty_file_is_no_table_but_can_become_one(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    path.touch()
    for read in (latest, lambda path: list(read_records(path))):
        with pytest.raises(DamagedFileError, match="is empty, no latency table"):
            read(path)
    add_runs(path, RUNS)
    assert len(latest(path)) == 12


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    folder = tmp_path / "latency.sqlite"
    folder.mkdir()
    for refusal in refusals(folder):
        assert isinstance(refusal, InputError)
        assert "is a folder" in str(refusal)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE parts",
        "DROP INDEX latencies_by_part",
        "ALTER TABLE latencies ADD COLUMN p95_ms REAL",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 0",
    ],
)
def test_a_table_of_another_schema_is_refused(table: Path, change: str) -> None:
    with sqlite3.connect(table) as connection:
        connection.execute(change)
    connection.close()
    before = table.read_bytes()
    for refusal in refusals(table):
        assert "is a database, but no latency table; check the path" in str(refusal)
    assert table.read_bytes() == before


def test_what_people_add_for_themselves_does_no_harm(table: Path) -> None:
    with sqlite3.connect(table) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("CREATE INDEX mine ON runs (host)")
    assert len(latest(table)) == 12


def test_a_locked_table_says_so(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.latency.tables.database._TIMEOUT_S", 0.0)
    with sqlite3.connect(table, isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(CoopexportError, match="database is locked; another process writes it, try again"):
            add_runs(table, [sitting(row(), minute=9)])
        assert len(latest(table)) == 12


_READ_ONLY = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/benchmarks")
from small_tables import row, sitting
from benchmarks.latency.table import latest
from benchmarks.latency.tables.adding import add_runs
from jetson.errors import CoopexportError
print(len(latest(Path(sys.argv[1]))))
for path in sys.argv[1:]:
    try:
        add_runs(Path(path), [sitting(row(), minute=9)])
    except CoopexportError as error:
        print(error)
"""


def test_a_read_only_folder_is_read_and_refused_when_written(table: Path) -> None:
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")
    folder = table.parent
    mount = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    script = f"{mount} && {sys.executable} -c '{_READ_ONLY}' {table} {folder / 'new' / 'latency.sqlite'}"
    done = subprocess.run([*unshare, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, there, new = done.stdout.splitlines()
    assert rows == "12"
    assert there == f"latency table {table}: attempt to write a readonly database; {CHECK}"
    assert new.startswith(f"latency table {folder / 'new' / 'latency.sqlite'}: ")
    assert new.endswith(f"; {CHECK}")


CHECK = "check the disk, and who may write into its folder"


def test_an_addition_that_fails_leaves_a_table_that_somebody_else_made_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"

    def overtaken() -> Iterator[RecordedRun]:
        yield RUNS[0]
        raise InputError("it broke")

    other, real = tmp_path / "other.sqlite", Path.mkdir
    add_runs(other, RUNS)

    def made_by_another(folder: Path, *arguments: Any, **options: Any) -> None:
        real(folder, *arguments, **options)
        other.rename(path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "mkdir", made_by_another)
        with pytest.raises(InputError, match="it broke"):
            add_runs(path, overtaken())
    assert len(latest(path)) == 12


@pytest.mark.parametrize("order", [RUNS, RUNS[::-1]])
def test_a_source_that_breaks_off_leaves_nothing(tmp_path: Path, order: list[RecordedRun]) -> None:
    path = tmp_path / "out" / "latency.sqlite"

    def breaking() -> Iterator[RecordedRun]:
        yield from order
        raise InputError("it broke")

    with pytest.raises(InputError, match="it broke"):
        add_runs(path, breaking())
    assert not path.parent.exists()
