"""What each column of the latency table may hold: checks for all that comes in, and its text in CSV files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.latency.tables.records import (
    ADDED_NAMES,
    GPU_NAMES,
    RecordedRun,
    TableRow,
    TableRun,
    microseconds_of,
    row_values,
    run_values,
)
from jetson.errors import DamagedFileError

_LARGEST_INTEGER = (1 << 63) - 1  # that SQLite holds


@dataclass(frozen=True)
class Kind:
    """What values of a column are. `expected`: in words; `is_valid`: of a value that is not None.

    `sql`: the column's type; `parse`: the value of a text that is not empty, raises ValueError; `write`: the reverse.
    """

    expected: str
    sql: str
    is_valid: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    write: Callable[[Any], str] = str


def _is_text(value: Any) -> bool:
    return type(value) is str and value.isprintable() and value != ""


def _is_number(value: Any) -> bool:
    return type(value) is float and (0 < value < math.inf or repr(value) == "0.0")  # SQLite has no -0.0


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_INTEGER


def _is_time(value: Any) -> bool:
    try:
        return _is_text(value) and abs(microseconds_of(value)) <= _LARGEST_INTEGER
    except ValueError:
        return False


def _number(text: str) -> float:
    return float(text) + 0.0  # SQLite has no -0.0


def _truth(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _one_of(*words: str) -> Kind:
    return Kind(" or ".join(words), "TEXT", lambda value: value in words)


def _flags(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    if not isinstance(found, list):
        raise ValueError(text)
    return tuple(found)


_TEXT = Kind("printable text", "TEXT", _is_text)
_TIME = Kind("a date or time such as 2026-08-01T10:00:00+00:00", "TEXT", _is_time)
_MILLISECONDS = Kind("milliseconds, a number that is 0 or more", "REAL", _is_number, _number, repr)
_MILLIJOULES = Kind("millijoules, a number that is 0 or more", "REAL", _is_number, _number, repr)
_RATIO = Kind("a number that is 0 or more", "REAL", _is_number, _number, repr)
_COUNT = Kind("a whole number that is 0 or more", "INTEGER", _is_whole, int)
_BYTES = Kind("bytes, a whole number that is 0 or more", "INTEGER", _is_whole, int)
_TRUTH = Kind("yes or no", "INTEGER", lambda value: type(value) is bool, _truth, lambda value: "yes" if value else "no")
_FLAGS = Kind(
    "a JSON list of texts",
    "TEXT",
    lambda value: value == () or (isinstance(value, tuple) and all(map(_is_text, value))),
    _flags,
    lambda value: json.dumps(value, ensure_ascii=False) if value else "",
)
RUN_COLUMNS: Mapping[str, Kind] = {
    "run": _TEXT,
    "started_at": _TIME,
    "target": _TEXT,
    "origin": _one_of("measured", "imported"),
    **dict.fromkeys(("host", "processor", "backend", "backend_version"), _TEXT),
    "threads": _COUNT,
    **dict.fromkeys(("affinity", "power_mode", "driver", "tensorrt", "l4t"), _TEXT),
    **dict.fromkeys(("warm_up", "rounds"), _COUNT),
    **dict.fromkeys(("steady", "interleaved", "in_chains"), _TRUTH),
    "reference_sha256": _TEXT,
    "reference_count": _COUNT,
    **dict.fromkeys(("reference_p50_ms", "reference_p50_low_ms", "reference_p50_high_ms"), _MILLISECONDS),
    **dict.fromkeys(("file_sha256", "samples_sha256"), _TEXT),
}
ROW_COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(("variant", "layer", "part", "codec", "precision"), _TEXT),
    "batch": _COUNT,
    "source_sha256": _TEXT,
    "status": _one_of("ok", "failed"),
    "reason": _TEXT,
    "count": _COUNT,
    **dict.fromkeys(("p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms", "mean_ms"), _MILLISECONDS),
    "cv": _RATIO,
    "flags": _FLAGS,
    "load_ms": _MILLISECONDS,
    "peak_memory_bytes": _BYTES,
    **dict.fromkeys(("energy_mj", "energy_above_idle_mj"), _MILLIJOULES),
    **dict.fromkeys(GPU_NAMES, _MILLISECONDS),
}
COLUMNS: Mapping[str, Kind] = {**RUN_COLUMNS, **ROW_COLUMNS}
_ALWAYS = frozenset(
    ("run", "started_at", "target", "origin", "variant", "layer", "part", "precision", "batch", "status")
)
_NUMBERS = (
    "count", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms", "mean_ms", "cv", "load_ms", "peak_memory_bytes",
    *ADDED_NAMES,
)  # fmt: skip


def row_problem(row: TableRow, origin: str) -> tuple[str, str] | None:
    """Return the column of a row that is wrong and in words what it holds and should, or None."""
    problem = _value_problem(ROW_COLUMNS, row_values(row))
    if problem is not None:
        return problem
    if row.status == "failed":
        if row.reason is None:
            return "reason", "is empty, a row that failed says why"
        number = next((name for name in _NUMBERS if getattr(row, name) is not None), None)
        return None if number is None else (number, "holds a number, a row that failed has none")
    if row.reason is not None:
        return "reason", "says why it failed, and status says ok"
    if row.p50_ms is None:
        return "p50_ms", f"is empty, expected {_MILLISECONDS.expected}"
    if origin == "measured" and not row.count:
        return "count", "is empty, a measured row has its number of samples; without it the origin is imported"
    return _interval_problem("", row.p50_low_ms, row.p50_ms, row.p50_high_ms)


def run_problem(run: TableRun) -> tuple[str, str] | None:
    """Return the column of a run that is wrong and in words what it holds and should, or None."""
    problem = _value_problem(RUN_COLUMNS, run_values(run))
    if problem is not None or run.reference_p50_ms is None:
        return problem
    if run.reference_sha256 is None:
        return "reference_sha256", "is empty, and there is a median of the reference"
    return _interval_problem("reference_", run.reference_p50_low_ms, run.reference_p50_ms, run.reference_p50_high_ms)


def check_record(record: RecordedRun, where: str, path: object) -> None:
    """Raise DamagedFileError when a value of a run or its rows is not what its column may hold; `where`: begins it."""
    problem = run_problem(record.run)
    if problem is not None:
        raise DamagedFileError(f"{where}: {' '.join(problem)}", path=path)
    for row in record.rows:
        problem = row_problem(row, record.run.origin)
        if problem is not None:
            part = " ".join(filter(None, (row.variant, row.layer, row.part, row.codec)))
            raise DamagedFileError(f"{where}: {part}: {' '.join(problem)}", path=path)


def _value_problem(columns: Mapping[str, Kind], values: tuple[Any, ...]) -> tuple[str, str] | None:
    for (name, kind), value in zip(columns.items(), values):  # noqa: B905  strict costs a tenth of the time
        if value is None:
            if name in _ALWAYS:
                return name, f"is empty, expected {kind.expected}"
        elif not kind.is_valid(value) and not (value == "" and name == "codec"):
            return name, f"holds {value!r:.60}, expected {kind.expected}"
    return None


def _interval_problem(prefix: str, low: float | None, middle: float, high: float | None) -> tuple[str, str] | None:
    if (low is None) != (high is None):
        return f"{prefix}p50_low_ms", f"and {prefix}p50_high_ms come together, or not at all"
    if low is not None and high is not None and not low <= middle <= high:
        return f"{prefix}p50_ms", f"holds {middle!r}, which is not from {low!r} to {high!r}, its interval"
    return None
