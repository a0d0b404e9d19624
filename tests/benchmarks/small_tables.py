"""Runs as the latency table keeps them, made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun


def row(part: str = "head", p50_ms: float | None = 3.0, width: float = 0.02, **fields: Any) -> TableRow:
    """Return a row of `conv4_1` with an interval of `width` times the median on each side; None: it failed."""
    plain: dict[str, Any] = {"variant": "pruned", "layer": "conv4_1", "part": part, "source_sha256": f"sha of {part}"}
    if p50_ms is None:
        return TableRow(**{**plain, "status": "failed", "reason": "it broke", **fields})
    numbers = {"count": 70, "p50_ms": p50_ms, "p50_low_ms": p50_ms * (1 - width), "p50_high_ms": p50_ms * (1 + width)}
    return TableRow(**{**plain, **numbers, **fields})


def sitting(*rows: TableRow, minute: int = 0, reference_ms: float | None = None, **fields: Any) -> RecordedRun:
    """Return a measured run of 10:`minute`; `reference_ms`: the reference's median, 1 % on each side."""
    plain: dict[str, Any] = {
        "run": f"20260801T10{minute:02}00Z-{minute:08x}",
        "started_at": f"2026-08-01T10:{minute:02}:00.000+00:00",
        "target": "cpu",
        "origin": "measured",
        "host": "here",
        "processor": "Some CPU",
        "backend": "onnxruntime",
        "backend_version": "1.20.0",
        "threads": 1,
    }
    if reference_ms is not None:
        plain.update(
            reference_sha256="the reference",
            reference_p50_ms=reference_ms,
            reference_p50_low_ms=reference_ms * 0.99,
            reference_p50_high_ms=reference_ms * 1.01,
        )
    return RecordedRun(TableRun(**{**plain, **fields}), rows)
