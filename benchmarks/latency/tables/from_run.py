"""From a latency run with its samples to what the table keeps of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.statistics import summarise
from benchmarks.latency.summaries import summarise_item
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun
from jetson.errors import one_line


def recorded_run(run: LatencyRun, file_sha256: str | None = None) -> RecordedRun:
    """Return a run as the table keeps it: the summary of every item, and where it was measured.

    `file_sha256`: of the file that it was read from. Facts of the machine are taken from `conditions` and `host`, and
    on a device from the agent's probe in `host`.
    """
    return RecordedRun(_table_run(run, file_sha256), tuple(_table_row(run, item) for item in run.items))


def _table_run(run: LatencyRun, file_sha256: str | None) -> TableRun:
    reference = run.reference
    reference_sha256, summary = None, None
    if reference is not None and reference.samples_ms is not None and reference.source_sha256 is not None:
        reference_sha256, summary = reference.source_sha256, summarise(reference.samples_ms)
    return TableRun(
        run=run.run,
        started_at=run.started_at,
        target=run.target,
        origin="measured",
        host=_text(run.host.get("name")),
        processor=_text(run.host.get("processor")),
        backend=_text(run.backend),
        backend_version=_text(run.backend_version),
        threads=run.threads,
        affinity=" ".join(map(str, run.affinity)) or None,
        power_mode=_power_mode(run),
        driver=_fact(run, "driver", "machine", "driver"),
        tensorrt=_fact(run, "tensorrt", "tensorrt", "package")
        or _fact(run, "tensorrt", "tensorrt", "module")
        or _fact(run, "tensorrt", "tensorrt", "tool"),
        l4t=_fact(run, "l4t", "machine", "l4t"),
        warm_up=run.warm_up,
        rounds=run.rounds,
        steady=run.steady,
        interleaved=run.interleaved,
        in_chains=run.in_chains,
        reference_sha256=reference_sha256,
        reference_count=None if summary is None else summary.count,
        reference_p50_ms=None if summary is None else summary.p50_ms,
        reference_p50_low_ms=None if summary is None else summary.p50_low_ms,
        reference_p50_high_ms=None if summary is None else summary.p50_high_ms,
        file_sha256=file_sha256,
        samples_sha256=_samples_sha256(run),
    )


def _table_row(run: LatencyRun, item: RunItem) -> TableRow:
    key = (item.variant, item.layer, item.part, item.codec or "", item.precision, item.batch, item.source_sha256)
    summary = summarise_item(run, item)
    if summary is None:
        return TableRow(*key, status="failed", reason=one_line(item.failure or "it failed") or "it failed")
    return TableRow(
        *key,
        count=summary.count,
        p50_ms=summary.p50_ms,
        p50_low_ms=summary.p50_low_ms,
        p50_high_ms=summary.p50_high_ms,
        p90_ms=summary.p90_ms,
        p99_ms=summary.p99_ms,
        mean_ms=summary.mean_ms,
        cv=summary.cv,
        flags=tuple(one_line(flag.text) for flag in summary.flags),
        load_ms=item.load_ms,
        peak_memory_bytes=item.peak_memory_bytes,
        energy_mj=item.energy_mj,
        energy_above_idle_mj=item.energy_above_idle_mj,
        gpu_inputs_ms=None if item.gpu_ms is None else item.gpu_ms.inputs,
        gpu_compute_ms=None if item.gpu_ms is None else item.gpu_ms.compute,
        gpu_outputs_ms=None if item.gpu_ms is None else item.gpu_ms.outputs,
        gpu_enqueue_ms=None if item.gpu_ms is None else item.gpu_ms.enqueue,
    )


def _samples_sha256(run: LatencyRun) -> str:
    """Return the SHA-256 of what was measured: each item's key, and its samples or failure."""
    items = [
        (item.variant, item.layer, item.part, item.codec, item.precision, item.batch, item.samples_ms, item.failure)
        for item in run.items
    ]
    return hashlib.sha256(json.dumps(items, separators=(",", ":")).encode()).hexdigest()


def _power_mode(run: LatencyRun) -> str | None:
    """Return the power mode's name, or both where somebody changed it meanwhile: no other run was taken like that."""
    modes = (run.conditions.get("power_mode"), run.host.get("power_mode"), _probe(run).get("power_mode"))
    name = next(filter(None, map(_mode_name, modes)), None)
    after = _mode_name(run.conditions.get("power_mode_after"))
    return name if after is None or after == name else f"{name}, then {after}"


def _mode_name(mode: object) -> str | None:
    """Return the name of a mode; a probe writes it beside the mode's number, which differs between boards."""
    return _text(mode.get("name") if isinstance(mode, Mapping) else mode)


def _fact(run: LatencyRun, name: str, *path: str) -> str | None:
    """Return a fact by `name` out of conditions or host, or by `path` out of the agent's probe."""
    for found in (run.conditions.get(name), run.host.get(name)):
        if isinstance(found, str) and found:
            return _text(found)
    found = _probe(run)
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return _text(found) if isinstance(found, str) else None


def _probe(run: LatencyRun) -> Mapping[str, Any]:
    probe = run.host.get("probe")
    return probe if isinstance(probe, Mapping) else {}


def _text(value: object) -> str | None:
    return one_line(value) or None if value is not None else None
