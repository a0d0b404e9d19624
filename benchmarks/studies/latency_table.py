"""How fast the latency table is: `python -m benchmarks.studies.latency_table`.

Fills a table run by run with rows of known numbers, as many as asked for, and times the additions (rows are summed up
already: the bootstrap of samples is not in it) and the query for each part's current row: once where all parts are
current, and once where the newest run was taken in another power mode, so that nearly all have expired. Takes a minute
and half a gigabyte of disk.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from benchmarks.latency.host import describe_host
from benchmarks.latency.table import current_latencies
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun
from benchmarks.studies.markdown import filled, table
from benchmarks.studies.page_command import deliver, page_parser, say

ROWS, PARTS = 1_000_000, 2_000
_ROWS_AT_ONCE = 50_000
_REPEATS = 5
_START = datetime(2026, 8, 1, tzinfo=timezone.utc)


class Seconds(NamedTuple):
    """A duration by the clock, and the processor's time in it: on a busy machine the first is longer."""

    elapsed: float
    processor: float


@dataclass(frozen=True)
class Speed:
    """What was measured on a table of `rows` rows of `parts` parts, each time by the clock and of the processor.

    `added`: seconds and processor's seconds per row of each addition; `current`, `expired`: of each query, where all
    parts are current, and where `expired_parts` of them have expired.
    """

    rows: int
    parts: int
    table_bytes: int
    added: tuple[Seconds, ...]
    current: tuple[Seconds, ...]
    expired: tuple[Seconds, ...]
    expired_parts: int


def measure(path: Path, rows: int, parts: int) -> Speed:
    """Fill the table `path` and time it; raises CoopexportError when it cannot be written."""
    runs = max(1, rows // parts)
    at_once = max(1, min(runs, _ROWS_AT_ONCE // parts))
    added = []
    made = (_sitting(number, parts) for number in range(runs))
    while batch := list(itertools.islice(made, at_once)):
        seconds = _timed(functools.partial(add_runs, path, batch))
        added.append(Seconds(*(each / (len(batch) * parts) for each in seconds)))
        say(f"added {len(batch) * parts:,} rows, {1 / added[-1].elapsed:,.0f} a second")
    current = _query(path, 0)
    again = min(4, parts)
    add_runs(path, [_sitting(runs, again, power_mode="15W")])
    expired = _query(path, parts - again)
    return Speed(runs * parts, parts, path.stat().st_size, tuple(added), current, expired, parts - again)


def page(speed: Speed) -> str:
    """Return the figures as Markdown."""
    host = describe_host()
    per_s = [Seconds(*(1 / each for each in seconds)) for seconds in speed.added]
    rows = [
        ("rows added a second, median of the additions", *_shown(per_s, statistics.median, ",.0f")),
        ("rows added a second, slowest addition", *_shown(per_s, min, ",.0f")),
        ("seconds for the current row of every part, median", *_shown(speed.current, statistics.median, ".3f")),
        ("seconds for the current row of every part, slowest", *_shown(speed.current, max, ".3f")),
        (
            f"the same where {speed.expired_parts:,} parts have expired, median",
            *_shown(speed.expired, statistics.median, ".3f"),
        ),
    ]
    what = filled(
        f"A table of {speed.rows:,} rows of {speed.parts:,} parts, {speed.table_bytes / speed.rows:,.0f} bytes a row, "
        f"on {host['processor']}, Python {host['python']}, load average {host['load_average']} at the end. Processor: "
        "without the time that the process waited for the processor or the disk."
    )
    return f"{what}\n\n{table(('what', 'by the clock', 'processor'), rows)}\n"


def _shown(found: Sequence[Seconds], choose: Callable[[Iterator[float]], float], form: str) -> tuple[str, str]:
    return (
        format(choose(each.elapsed for each in found), form),
        format(choose(each.processor for each in found), form),
    )


def _timed(function: Callable[[], object]) -> Seconds:
    elapsed, processor = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - elapsed, time.process_time() - processor)


def _query(path: Path, expired: int) -> tuple[Seconds, ...]:
    """Return the time of each query; of the parts `expired` have to have expired."""
    seconds = []
    for _ in range(_REPEATS):
        seconds.append(_timed(functools.partial(current_latencies, path)))
    found = len(current_latencies(path).expired)
    if found != expired:
        raise RuntimeError(f"{found} parts have expired, expected {expired}")
    return tuple(seconds)


def _sitting(number: int, parts: int, power_mode: str = "MAXN") -> RecordedRun:
    """Return a run of `parts` parts, whose medians vary from sitting to sitting as on a real machine."""
    run = TableRun(
        run=f"{_START + timedelta(minutes=number):%Y%m%dT%H%M%SZ}-{number:08x}",
        started_at=(_START + timedelta(minutes=number)).isoformat(),
        target="cpu",
        origin="measured",
        processor="a processor",
        backend="onnxruntime",
        backend_version="1.23.2",
        threads=1,
        power_mode=power_mode,
        reference_sha256="the reference network",
        reference_p50_ms=0.5 + number % 7 / 100,
        reference_p50_low_ms=0.49,
        reference_p50_high_ms=0.57,
    )
    return RecordedRun(run, tuple(_rows(number, parts)))


def _rows(number: int, parts: int) -> Iterator[TableRow]:
    for index in range(parts):
        part, codec = (("head", ""), ("encode", "rans"), ("decode", "rans"), ("tail", ""))[index % 4]
        median = (1 + index % 97 / 10) * (1 + (number * 31 + index) % 11 / 100)
        yield TableRow(
            f"conv4_1-{index % 100}", f"conv{index // 400}_{index // 4 % 100}", part, codec, "fp32", 1, f"{index:064x}",
            count=100, p50_ms=median, p50_low_ms=median * 0.99, p50_high_ms=median * 1.01, p90_ms=median * 1.1,
            mean_ms=median * 1.02, cv=0.02,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "latency_table.md")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--parts", type=int, default=PARTS, help="how many of them each run has")
    options = parser.parse_args(arguments)

    def make_page() -> str:
        with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
            return page(measure(Path(folder) / "latency.sqlite", options.rows, options.parts))

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
