"""The latency table of a project: one SQLite file that runs are imported into, each once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency.run import LatencyRun
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.columns import check_record
from benchmarks.latency.tables.comparison import Shift
from benchmarks.latency.tables.from_run import recorded_run
from benchmarks.latency.tables.newest import Graphs, JudgedRow, newest_rows
from benchmarks.latency.tables.records import Origin

# Where a project keeps its table, in its output folder.
TABLE_FILE = "latency.sqlite"
# Target, variant, layer, part, codec ("" for none).
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Latency:
    """One current row: the median of one part, and what it was measured on.

    `count` and `cv` are None where somebody brought the number without them. `p50_low_ms`, `p50_high_ms`: the 95 %
    interval of the median. `factor`: the reference's median in the target's newest run over that in this run, None
    where the two have no reference in common: `factor * p50_ms` is what that newest run would have measured. `shift`:
    how the median moved against the sitting before. `flags`: why the numbers are not to be trusted as they stand.
    """

    run: str
    target: str
    variant: str
    layer: str
    part: str
    codec: str
    source_sha256: str | None
    count: int | None
    p50_ms: float
    cv: float | None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    factor: float | None = None
    shift: Shift | None = None
    flags: tuple[str, ...] = ()
    origin: Origin = "measured"
    precision: str = "fp32"
    batch: int = 1
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None
    energy_above_idle_mj: float | None = None


@dataclass(frozen=True)
class CurrentLatencies:
    """What a table says of every part: `rows`, and why the others have no latency, by name of the part.

    `failures`: reasons of those that failed in their newest run. `expired`: what changed since those were measured
    that the target's newest run did not measure again.
    """

    rows: tuple[Latency, ...]
    failures: dict[Key, str]
    expired: dict[Key, str]


def import_run(path: Path, run: LatencyRun, file_sha256: str | None = None) -> int:
    """Add a run to the table at `path`, creating it; return the number of new rows (0 when it was there already).

    `file_sha256`: of the run's file. One transaction: all rows or none. Raises CoopexportError when the table has
    another run of the same id, the file is not a latency table, or it cannot be written.
    """
    record = recorded_run(run, file_sha256)
    check_record(record, f"run {run.run}", path)
    return add_runs(path, [record]).rows


def current_latencies(
    path: Path, precision: str = "fp32", batch: int = 1, graphs: Graphs | None = None
) -> CurrentLatencies:
    """Return, for each part, the row of its newest run where that succeeded, and else why there is none.

    A part that failed in its newest run has no latency: an older number says nothing about what fails now. Runs are
    comparable only when they were taken alike: of each target, those with the processor, number of threads, backend
    and version, driver, L4T and power mode of its newest run; rows of others have expired. With `graphs` (by variant,
    layer, part, codec and precision), those of other graphs have, too. Raises CoopexportError when there is no table,
    or it is damaged.
    """
    rows = newest_rows(path, precision, batch, graphs)
    reasons: dict[str, dict[Key, str]] = {"failed": {}, "expired": {}}
    for found in rows:
        if found.state != "current":
            row = found.row
            reasons[found.state][found.run.target, row.variant, row.layer, row.part, row.codec] = found.reason or ""
    return CurrentLatencies(
        tuple(_latency(found) for found in rows if found.state == "current"), reasons["failed"], reasons["expired"]
    )


def latest(path: Path, precision: str = "fp32", batch: int = 1) -> list[Latency]:
    """Return the current rows, as `current_latencies` does."""
    return list(current_latencies(path, precision, batch).rows)


def _latency(found: JudgedRow) -> Latency:
    run, row = found.run, found.row
    assert row.p50_ms is not None  # of a row that succeeded
    return Latency(
        run.run, run.target, row.variant, row.layer, row.part, row.codec, row.source_sha256, row.count, row.p50_ms,
        row.cv, row.p50_low_ms, row.p50_high_ms, row.p90_ms, row.p99_ms, found.factor, found.shift, row.flags,
        run.origin, row.precision, row.batch, row.load_ms, row.peak_memory_bytes, row.energy_mj,
        row.energy_above_idle_mj,
    )  # fmt: skip
