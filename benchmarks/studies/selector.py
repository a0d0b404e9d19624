"""How long planning a million candidates takes, and one decision: python -m benchmarks.studies.selector.

Candidates are drawn, as many as a project of many variants could never have, so that what takes long is seen. Each plan
is made in a process of its own, whose largest resident memory is the figure.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.planning.columns import Columns, lines_of
from benchmarks.planning.envelope import lower_envelope
from benchmarks.planning.hysteresis import stay_ranges
from benchmarks.selection.selector import Candidate, Options, Selection, select
from benchmarks.studies.markdown import filled, table
from benchmarks.studies.page_command import deliver, page_parser, say
from jetson.files.json_files import write_json
from jetson.runtime.partition_policy import SCHEMA, Envelope, held, read_partition_policy

COUNT = 1_000_000
DECISIONS = 200_000
LINKS = {"3G": 1_100_000.0, "4G": 5_850_000.0, "WiFi": 18_880_000.0}
MAXIMUM_LATENCY_MS = 10.0
_MIB = 2**20


def drawn_columns(count: int, seed: int = 0) -> Columns:
    """Return candidates with log-normal times and bytes; a larger head leaves less to the edge and fewer bytes."""
    rng = np.random.default_rng(seed)
    depth = rng.random(count)
    work = rng.lognormal(2.0, 0.5, count)
    return Columns(
        5.0 * work * depth,
        work * (1.0 - depth),
        rng.lognormal(8.0, 1.0, count) * (1.0 - depth) ** 2,
        rng.uniform(-0.2, 1.2, count),
    )


def worst_columns(count: int, seed: int = 0) -> Columns:
    """Return candidates that are each best somewhere: their lines touch a curve."""
    crossing_bytes = np.sort(np.random.default_rng(seed).uniform(10.0, 1e4, count))
    zero = np.zeros(count)
    return Columns(1e6 / crossing_bytes, zero, crossing_bytes, zero)


def as_candidates(columns: Columns) -> list[Candidate]:
    """Return the columns' rows as candidates."""
    rows = zip(
        columns.crossing_bytes.tolist(), columns.device_ms.tolist(), columns.edge_ms.tolist(),
        columns.loss_points.tolist(), strict=True,
    )  # fmt: skip
    return [Candidate("v", "l", "c", *row[:3], 0.9, row[3]) for row in rows]


def _fastest(count: int) -> Callable[[], Selection]:
    candidates = as_candidates(drawn_columns(count))
    return lambda: select(candidates, LINKS, 1.0)


def _most_accurate(count: int) -> Callable[[], Selection]:
    candidates = as_candidates(drawn_columns(count))
    return lambda: select(candidates, LINKS, 1.0, Options(maximum_latency_ms=MAXIMUM_LATENCY_MS))


def _envelope(make: Callable[[int], Columns], count: int) -> Callable[[], object]:
    columns = make(count)

    def plan() -> object:
        lines = lines_of(columns, 0.0)
        return stay_ranges(lines, lower_envelope(lines), 0.05)

    return plan


# What is planned: set up by the number of candidates, then timed.
PLANS: dict[str, Callable[[int], Callable[[], object]]] = {
    "least latency, bound of accuracy": _fastest,
    "best accuracy, bound of latency": _most_accurate,
    "envelope and hysteresis alone, from columns": lambda count: _envelope(drawn_columns, count),
    "the same where every candidate is best somewhere": lambda count: _envelope(worst_columns, count),
}


def time_of_plan(name: str, count: int) -> tuple[float, float, float]:
    """Return the seconds that a plan takes, those of the processor, and this process's largest memory in MiB.

    On a machine with other work, a plan waits for the processor: it takes longer than it computes.
    """
    plan = PLANS[name](count)
    gc.collect()
    start, processor_start = time.perf_counter(), time.process_time()
    plan()
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    return seconds, processor_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB


def microseconds_of_decision(decisions: int = DECISIONS) -> tuple[float, int]:
    """Return the mean time of one decision with hysteresis, and how many intervals it chose among.

    The goodput walks at random over all intervals, as a moving link does. A walk without decisions is taken off.
    """
    envelope = _written_and_read(drawn_columns(10_000))
    steps = np.random.default_rng(1).normal(0.0, 0.05, decisions)
    goodputs = (5e6 * np.exp(np.abs(np.cumsum(steps)) % 6.0 - 3.0)).tolist()
    position = 0
    start = time.perf_counter()
    for goodput in goodputs:
        position = held(envelope, position, goodput)
    middle = time.perf_counter()
    for _ in goodputs:
        position = 0
    end = time.perf_counter()
    return 1e6 * ((middle - start) - (end - middle)) / decisions, len(envelope.from_bps)


def _written_and_read(columns: Columns) -> Envelope:
    """Return the plan's first envelope as a device has it: through the file."""
    selection = select(as_candidates(columns), LINKS, 1.0)
    content = {
        "candidates": [asdict(item) for item in selection.candidates],
        "intervals": [asdict(item) for item in selection.intervals],
        "envelopes": [asdict(item) for item in selection.envelopes],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "plan.json")
        write_json(path, SCHEMA, content)
        return read_partition_policy(path).envelopes[0]


def make_page(count: int, decisions: int) -> str:
    """Return the figures as Markdown: a process for each plan, and one decision."""
    rows = []
    for name in PLANS:
        say(f"planning {count} candidates: {name}")
        program = [sys.executable, "-m", "benchmarks.studies.selector", "--plan", name, "--candidates", str(count)]
        answer = subprocess.run(program, check=True, capture_output=True, text=True).stdout
        seconds, processor_seconds, mebibytes = json.loads(answer)
        rows.append([name, f"{seconds:.2f}", f"{processor_seconds:.2f}", f"{mebibytes:.0f}"])
    microseconds, intervals = microseconds_of_decision(decisions)
    return "\n".join(
        [
            "# The selector's speed",
            "",
            filled(
                f"Planning {count:,} drawn candidates, each plan in a process of its own; {os.cpu_count()} cores, load "
                f"average {os.getloadavg()[0]:.1f}. Memory is the process's largest, candidates included."
            ),
            "",
            table(["plan", "s", "s of the processor", "MiB"], rows),
            "",
            filled(
                f"One decision with hysteresis among {intervals} intervals, in plain Python: {microseconds:.2f} µs, "
                f"the mean of {decisions:,} along a goodput that walks over all of them."
            ),
            "",
        ]
    )


def main() -> int:
    """Print the figures, or write them."""
    parser = page_parser(__doc__, "selector.md")
    parser.add_argument("--candidates", type=int, default=COUNT, help="how many")
    parser.add_argument("--decisions", type=int, default=DECISIONS, help="how many")
    parser.add_argument("--plan", choices=list(PLANS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan is not None:
        print(json.dumps(time_of_plan(arguments.plan, arguments.candidates)))
        return 0
    return deliver(lambda: make_page(arguments.candidates, arguments.decisions), arguments.output)


if __name__ == "__main__":
    sys.exit(main())
