"""Opening a latency table: what it is, which version, and every refusal of SQLite in one line."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from benchmarks.latency.tables.columns import check_record
from benchmarks.latency.tables.rows import FILL_AGAIN, Inserter
from benchmarks.latency.tables.schema import (
    MAJOR_VERSION,
    add_columns,
    create_tables,
    has_schema,
    missing_columns,
    take_version_1,
)
from jetson.errors import CoopexportError, DamagedFileError, DeviceError, InputError, StaleError

_TIMEOUT_S = 30.0
_MAY_WRITE = "check the disk, and who may write into its folder"
_CACHE_KIBIBYTES = 64 * 1024


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the table at `path`, which is not written to: an earlier one becomes one of this version in memory alone.

    Raises CoopexportError when there is none, or it is damaged, no latency table, or of another version.
    """
    if not path.exists():
        raise StaleError(f"there is no latency table {path}", path=path, fix="fill it with: coopexport bench")
    with _refusals(path), contextlib.closing(_connect(path, "ro")) as connection:
        connection.execute("BEGIN")  # nobody else's addition comes between two queries
        version = _checked_version(connection, path)
        if version == 0:
            raise DamagedFileError(f"{path} is empty, no latency table", path=path, fix=FILL_AGAIN)
        if version == MAJOR_VERSION and not missing_columns(connection):
            yield connection
            return
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
            connection.backup(copy)
            _migrate(copy, path)
            yield copy


@contextlib.contextmanager
def open_to_write(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the table at `path` in one transaction: what is done in the block is there as a whole, or not at all.

    Creates it, and its folder, where they are missing, and takes them away again where the block fails; an earlier one
    becomes one of this version in the same transaction. Raises CoopexportError as `open_to_read` does, and when it
    cannot be written.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    existed = path.exists()
    try:
        _make_folder(path)
        with _refusals(path), contextlib.closing(_connect(path, "rwc")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                version = _checked_version(connection, path)
                if version == 0:
                    create_tables(connection)
                elif version < MAJOR_VERSION or missing_columns(connection):
                    _migrate(connection, path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
                    connection.execute("ROLLBACK")
                raise
    except BaseException:
        if not existed:
            _take_away(path, made)
        raise


def _take_away(path: Path, folders: list[Path]) -> None:
    """Remove what an addition that failed made: an empty file, where nobody else has filled it since, and folders."""
    with contextlib.suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"latency table {path}: {error.strerror}", path=path, fix=_MAY_WRITE) from None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if path.is_dir():
        raise InputError(f"{path} is a folder, no latency table", path=path, fix="name the file")
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, timeout=_TIMEOUT_S, isolation_level=None, uri=True)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return a table's version, 0 for an empty file; raises CoopexportError when it is none of ours."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    is_empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if version == 0 and is_empty:
        return 0
    # Whole pages that are missing SQLite notices itself; of one that is cut off it takes the rest as zeros.
    if path.stat().st_size % int(connection.execute("PRAGMA page_size").fetchone()[0]):
        raise DamagedFileError(f"latency table {path} is truncated", path=path, fix=FILL_AGAIN)
    if version not in (0, 1, MAJOR_VERSION):
        said = f"{path} is a latency table of version {version}, this version reads 1 and {MAJOR_VERSION}"
        raise DamagedFileError(said, path=path, fix="use the coopexport that wrote it, or update this one")
    if version == 0 or not has_schema(connection, version):
        raise InputError(f"{path} is a database, but no latency table", path=path, fix="check the path")
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if has_schema(connection, MAJOR_VERSION):
        add_columns(connection)
        return
    records = take_version_1(connection)
    create_tables(connection)
    inserter = Inserter(connection)
    for record in records:
        check_record(record, f"latency table {path}: run {record.run.run}", path)
        inserter.insert(record)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Raise what SQLite refuses as CoopexportError, with what helps."""
    try:
        yield
    except CoopexportError:
        raise
    except (sqlite3.Error, UnicodeError) as error:  # UnicodeError: in a damaged schema
        said = str(error)
        kind: type[CoopexportError] = DeviceError
        if "locked" in said:
            fix = "another process writes it, try again when that is done"
        elif "full" in said:
            fix = "check the disk"
        elif "readonly" in said or "unable to open" in said or "I/O" in said:
            fix = _MAY_WRITE
        else:
            kind, fix = DamagedFileError, FILL_AGAIN
        raise kind(f"latency table {path}: {said}", path=path, fix=fix) from None
