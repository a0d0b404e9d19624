"""Files that runs come in: latency runs, tables, CSV files, and archives with latency runs in them."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.latency.run import SCHEMA, LatencyRun
from benchmarks.latency.run import read_run as read_run_file
from benchmarks.latency.tables.columns import check_record
from benchmarks.latency.tables.csv_files import read_csv
from benchmarks.latency.tables.database import open_to_read
from benchmarks.latency.tables.from_run import recorded_run
from benchmarks.latency.tables.records import RecordedRun
from benchmarks.latency.tables.rows import FILL_AGAIN, read_runs
from exporter.bundles.records import record_of
from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file
from jetson.files.json_files import decode_json
from jetson.requests.build_request import RESULT_NAME

# What the standard library raises for damaged members, by their compression.
_UNREADABLE = (
    zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, OSError
)  # fmt: skip
_MOST_BYTES = 256 << 20  # of one run in an archive
_KINDS = "a run (.json), a table (.sqlite), numbers (.csv) or an archive of runs (.zip)"


def read_records(path: Path) -> Iterator[RecordedRun]:
    """Yield the runs in a file, checked; what it is its name's end says: .json, .sqlite, .csv or .zip.

    Raises CoopexportError when it is missing, damaged, or none of these, while it is read.
    """
    if not path.exists():
        raise InputError(f"{path} is missing", path=path, fix="check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder", path=path, fix=f"name the files in it: {_KINDS}")
    readers = {".json": _of_run, ".zip": _of_archive, ".sqlite": _of_table, ".csv": read_csv}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path} does not end in .json, .sqlite, .csv or .zip", path=path, fix=f"give {_KINDS}")
    return read(path)


def _of_run(path: Path) -> Iterator[RecordedRun]:
    run = read_run_file(path)
    yield _checked(recorded_run(run, sha256_of_file(str(path))), path)


def _of_table(path: Path) -> Iterator[RecordedRun]:
    """Yield what another table holds, after SQLite has looked through all of its pages."""
    with open_to_read(path) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedFileError(f"latency table {path} is damaged: {found}", path=path, fix=FILL_AGAIN)
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            said = f"latency table {path} is damaged: a row names a run or a part that is not there"
            raise DamagedFileError(said, path=path, fix=FILL_AGAIN)
        for record in read_runs(connection, path):
            yield _checked(record, path)


def _of_archive(path: Path) -> Iterator[RecordedRun]:
    """Yield every latency run that lies in a zip file, whatever else is in it."""
    count = 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".json")]
            for member in members:
                if member.filename == RESULT_NAME:
                    continue
                if member.file_size > _MOST_BYTES:
                    raise InputError(f"{path}: {member.filename} is too large to be a latency run", path=path)
                yield _checked(_parsed(archive.read(member), f"{path}: {member.filename}"), path)
                count += 1
    except _UNREADABLE as error:
        raise DamagedFileError(f"{path} is damaged: {error}", path=path, fix="copy or make it again") from None
    if count == 0:
        raise InputError(
            f"{path} holds no latency run",
            path=path,
            fix="measure on the device (python3 coop-agent.pyz bench ORDER RESULT) and give the run that it writes",
        )


def _parsed(data: bytes, name: str) -> RecordedRun:
    run = record_of(LatencyRun, decode_json(data, SCHEMA, name), name)
    return recorded_run(run, sha256_of_bytes(data))


def _checked(record: RecordedRun, path: Path) -> RecordedRun:
    check_record(record, f"{path}: run {record.run.run}", path)
    return record


def is_recorded_file(text: str) -> bool:
    """Tell whether `text` names a file of one of these kinds, rather than a run."""
    return Path(text).suffix.lower() in (".json", ".zip", ".sqlite", ".csv")
