"""Which implementation of the entropy coder a run measured: times of the two are not alike."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.latency.run import read_run
from benchmarks.latency.tables.records import microseconds_of
from jetson.errors import CoopexportError


def entropy_coders(folder: Path, runs: Iterable[str]) -> dict[str, str]:
    """Return by run which rANS it measured, "c" or "python", the earliest run first.

    `folder`: where the files of runs lie. Runs whose file is missing or damaged, or does not say so, are left out.
    """
    found = []
    for name in sorted(set(runs)):
        path = folder / f"{name}.json"
        try:
            run = read_run(path)
            coder = run.host.get("rans")
            if isinstance(coder, str):
                found.append((microseconds_of(run.started_at), name, coder))
        except (CoopexportError, ValueError):
            continue
    return {name: coder for _, name, coder in sorted(found)}
