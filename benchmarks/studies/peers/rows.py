"""What was measured of every tool, and the tables of it, as Markdown. A failure is a row with its reason."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.studies.markdown import NOTHING, holds, table
from exporter.parity import SHRINK_BOUND

# What shrinking is meant to take at most: seconds up to a number of parameters, seconds for VGG-16-BN, and memory as a
# multiple of the checkpoint's bytes, the loaded network included.
FAST_PARAMETERS = 30_000_000
FAST_TARGET_S = 0.5
LARGE_TARGET_S = 3.0
PEAK_TARGET = 2.5


@dataclass(frozen=True)
class BenchmarkCase:
    """A network under one set of masks. `meaning`: of the masks; sizes are those of the full network, per input."""

    network: str
    meaning: str
    parameters: int
    macs: int
    checkpoint_bytes: int
    masked_filters: int
    filters: int

    @property
    def target_s(self) -> float:
        """Return how many seconds shrinking is meant to take at most."""
        return FAST_TARGET_S if self.parameters <= FAST_PARAMETERS else LARGE_TARGET_S


@dataclass(frozen=True)
class Measured:
    """What one tool has made of a case.

    `times_s`: of every round, in seconds by the clock, and `processor_times_s`: how much of it this process ran;
    `parameters` and `macs`: what is left; errors: against the masked network, relative to the outputs' spread;
    `peak_bytes`: most resident memory, the loaded network included, or None where it could not be measured.
    """

    benchmark_case: BenchmarkCase
    tool: str
    times_s: tuple[float, ...]
    processor_times_s: tuple[float, ...]
    parameters: int
    macs: int
    error_float64: float
    error_float32: float
    peak_bytes: int | None
    note: str = ""

    @property
    def median_s(self) -> float:
        """Return the median time in seconds."""
        return statistics.median(self.times_s)

    @property
    def processor_s(self) -> float:
        """Return the median of the processor's time in seconds."""
        return statistics.median(self.processor_times_s)

    @property
    def peak_ratio(self) -> float | None:
        """Return the peak as a multiple of the checkpoint's bytes."""
        return None if self.peak_bytes is None else self.peak_bytes / self.benchmark_case.checkpoint_bytes

    @property
    def is_equal(self) -> bool:
        """Tell whether the shrunk network computes what the masked one does, by this project's own bound."""
        return self.error_float64 <= SHRINK_BOUND


@dataclass(frozen=True)
class NotMeasured:
    """A tool that gave no network, or one that does not run, and why."""

    benchmark_case: BenchmarkCase
    tool: str
    reason: str


Row: TypeAlias = Measured | NotMeasured


def case_table(benchmark_cases: Iterable[BenchmarkCase]) -> str:
    """Return one row per network: what it is before shrinking. Cases of one network differ in the meaning only."""
    header = ("network", "parameters M", "GMACs", "checkpoint MB", "filters masked")
    unique = {benchmark_case.network: benchmark_case for benchmark_case in benchmark_cases}
    rows = [
        (
            item.network,
            f"{item.parameters / 1e6:.2f}",
            f"{item.macs / 1e9:.2f}",
            f"{item.checkpoint_bytes / 1e6:.1f}",
            f"{item.masked_filters:,} of {item.filters:,}",
        )
        for item in unique.values()
    ]
    return table(header, rows)


def row_table(rows: Iterable[Row]) -> str:
    """Return one row per network, meaning and tool."""
    header = (
        "network", "masks mean", "tool", "seconds", "processor s", "parameters M", "GMACs", "float64 error",
        "float32 error", "same function", "peak memory", "remark",
    )  # fmt: skip
    return table(header, [_cells(row) for row in rows], left=3, words=("same function", "remark"))


def _cells(row: Row) -> tuple[str, ...]:
    first = (row.benchmark_case.network, row.benchmark_case.meaning, row.tool)
    if isinstance(row, NotMeasured):
        return (*first, *[NOTHING] * 8, row.reason)
    return (
        *first,
        f"{row.median_s:.2f}",
        f"{row.processor_s:.2f}",
        f"{row.parameters / 1e6:.2f}",
        f"{row.macs / 1e9:.3f}",
        f"{row.error_float64:.1e}",
        f"{row.error_float32:.1e}",
        holds(row.is_equal),
        _peak(row),
        row.note,
    )


def bound_table(rows: Iterable[Measured]) -> str:
    """Return one row per network and meaning: seconds and peak memory beside what is wanted at most."""
    header = ("network", "masks mean", "seconds", "at most", "holds", "peak memory", "at most", "holds")
    cells = [
        (
            row.benchmark_case.network,
            row.benchmark_case.meaning,
            f"{row.median_s:.2f}",
            f"{row.benchmark_case.target_s}",
            holds(row.median_s <= row.benchmark_case.target_s),
            _peak(row),
            f"{PEAK_TARGET}x",
            holds(None if row.peak_ratio is None else row.peak_ratio <= PEAK_TARGET),
        )
        for row in rows
    ]
    return table(header, cells, left=2, words=("holds",))


def _peak(row: Measured) -> str:
    return "not measured" if row.peak_ratio is None else f"{row.peak_ratio:.2f}x"
