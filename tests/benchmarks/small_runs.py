"""Latency runs made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.latency.run import LatencyRun, RunItem

HOST = {"name": "here", "processor": "Some CPU", "cores": 2, "python": "3.11"}


def item(part: str = "head", **fields: Any) -> RunItem:
    """Return an item of `conv4_1`, five samples unless `samples_ms` or `failure` says otherwise."""
    plain: dict[str, Any] = {"variant": "pruned", "layer": "conv4_1", "part": part, "source_sha256": f"sha of {part}"}
    if "failure" not in fields:
        plain["samples_ms"] = (1.0, 2.0, 3.0, 4.0, 5.0)
    return RunItem(**{**plain, **fields})


def run_of(*items: RunItem, minute: int = 0, **fields: Any) -> LatencyRun:
    """Return a run that was started at 10:`minute`."""
    plain: dict[str, Any] = {
        "run": f"20260801T10{minute:02}00Z-{minute:08x}",
        "started_at": f"2026-08-01T10:{minute:02}:00.000+00:00",
        "target": "cpu",
        "host": HOST,
        "backend": "onnxruntime",
        "backend_version": "1.20.0",
        "threads": 1,
        "warm_up": 2,
        "rounds": 5,
        "interleaved": True,
        "items": items,
    }
    return LatencyRun(**{**plain, **fields})
