"""The latency table as CSV: everything that it says of every row, and numbers that people bring."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.latency.tables.columns import COLUMNS, RUN_COLUMNS, row_problem, run_problem
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun, part_key, row_values, run_values
from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_bytes

REQUIRED = ("run", "started_at", "target", "variant", "layer", "part")
# A file says one of these of each row: a median, or why there is none.
_ONE_OF = ("p50_ms", "reason")
# The ends of columns in other units, and the names that other tools give to a median or a mean.
_UNITS = (
    "_us", "_ns", "_s", "_sec", "_seconds", "_msec", "_microseconds", "_milliseconds", "_kb", "_mb", "_kib", "_mib",
    "_j", "_uj",
)  # fmt: skip
_OTHER_NAMES = {
    "mean": "mean_ms", "average": "mean_ms", "median": "p50_ms", "latency": "p50_ms", "p50": "p50_ms",
    "energy": "energy_mj", "p90": "p90_ms", "p99": "p99_ms", "peak_memory": "peak_memory_bytes", "load": "load_ms",
}  # fmt: skip


def read_csv(path: Path) -> Iterator[RecordedRun]:
    """Yield the runs in a CSV file of the table's columns, in their order there; rows of a run need not be together.

    Needs the columns `REQUIRED`, and `p50_ms` or `reason`; a column that is left out, or an empty cell, is a value that
    is not known. Rows without `origin` are imported, those without `status` failed where they give a reason; without
    the column `file_sha256` it is that of this file. Raises CoopexportError naming line, column, value and what is
    expected.
    """
    data = path.read_bytes()
    lines = csv.reader(io.StringIO(_decoded(data, path), newline=""), strict=True)
    runs: dict[str, TableRun] = {}
    rows: dict[str, dict[tuple[Any, ...], TableRow]] = {}
    try:
        header = next(lines, None)
        if header is None:
            raise _refusal(path, 1, "there is nothing", f"expected a header with {', '.join(REQUIRED)} and p50_ms")
        names = [name.strip() for name in header]
        _check_header(path, names)
        for cells in lines:
            line = lines.line_num
            if not cells:
                continue
            if len(cells) != len(names):
                raise _refusal(path, line, f"{len(cells)} cells", f"the header names {len(names)} columns")
            run, row = _parsed(path, line, dict(zip(names, cells, strict=True)))
            known = runs.setdefault(run.run, run)
            if known != run:
                name = next(name for name in RUN_COLUMNS if getattr(known, name) != getattr(run, name))
                value = _cell(name, getattr(run, name))
                said = f'column {name}: "{value}" is not what another line says of run {run.run}'
                raise _refusal(path, line, said, f'expected "{_cell(name, getattr(known, name))}"')
            key = part_key(run.target, row)
            if key in rows.setdefault(run.run, {}):
                raise _refusal(path, line, f"a part of run {run.run} a second time", "expected it once")
            rows[run.run][key] = row
    except csv.Error as error:
        raise _refusal(path, lines.line_num, f"no CSV ({error})", "expected cells between commas") from None
    digest = None if "file_sha256" in names else sha256_of_bytes(data)
    for name, run in runs.items():
        yield RecordedRun(run if digest is None else replace(run, file_sha256=digest), tuple(rows[name].values()))


def csv_blocks(records: Iterable[RecordedRun]) -> Iterator[bytes]:
    """Yield the CSV file of runs with all columns: `read_csv` gives the same runs, except those without rows."""
    yield _csv_line(COLUMNS)
    for record in records:
        head = run_values(record.run)
        yield b"".join(
            _csv_line(_cell(name, value) for name, value in zip(COLUMNS, head + row_values(row), strict=True))
            for row in record.rows
        )


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")  # spreadsheets put a mark of the encoding first
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path} is no text in UTF-8", path=path, fix="save it as CSV in UTF-8") from None


def _check_header(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise _refusal(path, 1, f'column "{name}" is not known', _expected_instead(name))
        if names.count(name) > 1:
            raise _refusal(path, 1, f"column {name} twice", "expected it once")
    for name in REQUIRED:
        if name not in names:
            raise _refusal(path, 1, f"no column {name}", f"expected {', '.join(REQUIRED)} and p50_ms")
    if not set(_ONE_OF) & set(names):
        raise _refusal(path, 1, "no column p50_ms", "expected the median in milliseconds")


def _expected_instead(name: str) -> str:
    """Return what should stand in the header in the place of a column that is not known."""
    stem = name.lower().replace(" ", "_")
    for unit in sorted(_UNITS, key=len, reverse=True):
        stem = stem.removesuffix(unit)
    stem = _OTHER_NAMES.get(stem, stem)
    for found in (stem, f"{stem}_ms", f"{stem}_bytes", f"{stem}_mj"):
        if found in COLUMNS:
            units = {"ms": ", in milliseconds", "bytes": ", in bytes", "mj": ", in millijoules"}
            return f"expected {found}{units.get(found.rpartition('_')[2], '')}"
    near = difflib.get_close_matches(name, COLUMNS, 1)
    return f"did you mean {near[0]}?" if near else "docs/formats.md lists the columns"


def _parsed(path: Path, line: int, cells: dict[str, str]) -> tuple[TableRun, TableRow]:
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if cell == "":
            continue
        kind = COLUMNS[name]
        try:
            values[name] = kind.parse(cell)
        except (ValueError, KeyError, OverflowError, RecursionError):
            raise _refusal(path, line, f'column {name}: "{cell:.60}"', f"expected {kind.expected}") from None
        if not kind.is_valid(values[name]):
            raise _refusal(path, line, f'column {name}: "{cell:.60}"', f"expected {kind.expected}")
    for name in REQUIRED:
        if name not in values:
            raise _refusal(path, line, f"column {name} is empty", f"expected {COLUMNS[name].expected}")
    run = TableRun(**{name: values.pop(name) for name in tuple(values) if name in RUN_COLUMNS})
    values.setdefault("status", "failed" if "reason" in values else "ok")
    row = TableRow(**values)
    problem = run_problem(run) or row_problem(row, run.origin)
    if problem is not None:
        raise _refusal(path, line, f"column {' '.join(problem)}")
    return run, row


def _cell(name: str, value: Any) -> str:
    return "" if value is None else COLUMNS[name].write(value)


def _refusal(path: Path, line: int, what: str, expected: str = "") -> InputError:
    return InputError(f"{path}: line {line}: {what}" + (f"; {expected}" if expected else ""), path=path)
