"""A run as the latency table keeps it: where it comes from, and the summary of each of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from typing import Any, Literal

Origin = Literal["measured", "imported"]
Status = Literal["ok", "failed"]
# Target, variant, layer, part, codec ("" for none), precision, batch: what names a part in the table.
PartKey = tuple[str, str, str, str, str, str, int]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class TableRun:
    """Where the rows of one run come from; what is not known is None.

    `run`: its id; `started_at`: ISO 8601, UTC where it names no zone. `host`: the device's name; `affinity`: the
    numbers of its CPUs allowed, blanks between. `reference_*`: the network that is in every run's rounds, and its
    median there. `file_sha256`: of the file that the run was read from; `samples_sha256`: of its samples.
    """

    run: str
    started_at: str
    target: str
    origin: Origin = "imported"
    host: str | None = None
    processor: str | None = None
    backend: str | None = None
    backend_version: str | None = None
    threads: int | None = None
    affinity: str | None = None
    power_mode: str | None = None
    driver: str | None = None
    tensorrt: str | None = None
    l4t: str | None = None
    warm_up: int | None = None
    rounds: int | None = None
    steady: bool | None = None
    interleaved: bool | None = None
    in_chains: bool | None = None
    reference_sha256: str | None = None
    reference_count: int | None = None
    reference_p50_ms: float | None = None
    reference_p50_low_ms: float | None = None
    reference_p50_high_ms: float | None = None
    file_sha256: str | None = None
    samples_sha256: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One part of one run: its numbers, or with status "failed" the `reason` why there are none.

    `codec`: "" for none. `p50_low_ms`, `p50_high_ms`: the 95 % interval of the median. `flags`: why the numbers are
    not to be trusted as they stand.
    """

    variant: str
    layer: str
    part: str
    codec: str = ""
    precision: str = "fp32"
    batch: int = 1
    source_sha256: str | None = None
    status: Status = "ok"
    reason: str | None = None
    count: int | None = None
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    mean_ms: float | None = None
    cv: float | None = None
    flags: tuple[str, ...] = ()
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None
    energy_above_idle_mj: float | None = None
    gpu_inputs_ms: float | None = None
    gpu_compute_ms: float | None = None
    gpu_outputs_ms: float | None = None
    gpu_enqueue_ms: float | None = None


@dataclass(frozen=True)
class RecordedRun:
    """A run with its rows, in any order."""

    run: TableRun
    rows: tuple[TableRow, ...]


RUN_NAMES = tuple(field.name for field in fields(TableRun))
ROW_NAMES = tuple(field.name for field in fields(TableRow))
# Columns that tables of this version did not have from the start, in the order in which they came.
GPU_NAMES = ("gpu_inputs_ms", "gpu_compute_ms", "gpu_outputs_ms", "gpu_enqueue_ms")
ADDED_NAMES = ("energy_mj", "energy_above_idle_mj", *GPU_NAMES)
# The first columns of a row name its part; a target goes before them.
KEY_NAMES = ROW_NAMES[:6]
run_values: Callable[[TableRun], tuple[Any, ...]] = attrgetter(*RUN_NAMES)
row_values: Callable[[TableRow], tuple[Any, ...]] = attrgetter(*ROW_NAMES)
key_values: Callable[[TableRow], tuple[Any, ...]] = attrgetter(*KEY_NAMES)


def part_key(target: str, row: TableRow) -> PartKey:
    """Return what names the part that `row` is about."""
    return (target, row.variant, row.layer, row.part, row.codec, row.precision, row.batch)


def microseconds_of(started_at: str) -> int:
    """Return a start in microseconds since 1970, UTC; raises ValueError when it is no date or time of ISO 8601."""
    text = started_at.strip()
    parsed = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)
    aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1)
