"""The plan file: all candidates, which is best at which goodput, and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.latency.table import Latency
from benchmarks.selection.baselines import baselines
from benchmarks.selection.candidates import VariantFiles
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import IDLE, INPUT, OUTPUT, Candidate
from engines.building.build_items import WHOLE
from exporter.project.freshness import FORMAT, digest
from exporter.project.settings import Project
from exporter.variants.plans import ORIGINAL
from jetson.files.json_files import write_json
from jetson.runtime.partition_policy import SCHEMA

PLAN_FILE = "plan.json"
_RULE = (
    "between stay_from_bps and stay_upto_bps a choice is held: there its latency is at most so many percent over the "
    "least; with maximum_latency_ms it keeps that, and none more accurate would keep it at a goodput lower by so much"
)


def write_partition_policy(project: Project, result: ProjectSelection) -> Path:
    """Write the plan file into the project's output and return its path; raises OSError."""
    selection, settings = result.selection, result.settings
    content: dict[str, Any] = {
        "made_from": plan_inputs(result),
        "assumptions": _assumptions(result),
        "objective": "most accurate within maximum_latency_ms" if settings.maximum_latency_ms else "least latency",
        "bound": _without_none(
            {
                "metric": result.metric,
                "maximum_loss_points": settings.maximum_loss_points,
                "reference": result.reference,
                "reference_variant": ORIGINAL,
                "maximum_latency_ms": settings.maximum_latency_ms,
            }
        ),
        "loads": {
            "device": {IDLE: 1.0, **settings.device_loads},
            "edge": {IDLE: 1.0, **settings.edge_loads},
        },
        "hysteresis": {"percent": settings.hysteresis_percent, "rule": _RULE},
        "candidates": [
            {**_without_none(asdict(candidate)), "files": _files(result.variants, candidate)}
            for candidate in selection.candidates
        ],
        "intervals": [asdict(interval) for interval in selection.intervals],
        "envelopes": [asdict(envelope) for envelope in selection.envelopes],
        "links": [
            {
                **asdict(choice),
                "baselines": {
                    baseline.name: {"candidate": baseline.candidate, "latency_ms": baseline.latency_ms}
                    for baseline in baselines(selection, choice.goodput_bps, choice.round_trip_ms)
                },
            }
            for choice in selection.links
        ],
    }
    path = project.output / PLAN_FILE
    write_json(str(path), SCHEMA, content)
    return path


def _assumptions(result: ProjectSelection) -> dict[str, Any]:
    """Return what the latencies rest on, in words where no number says it."""
    settings, candidates = result.settings, result.selection.candidates
    device = f"measured on target {result.target} here, times device_slowdown: not measured on a device"
    if settings.device_target is not None:
        device = f"measured on target {settings.device_target}; where device_origin is scaled, some parts {device}"
    if result.sources.compared_parts:
        device += f"; device_slowdown is the median of {result.sources.compared_parts} parts that both measured"
    for precision, sources in result.sources.others.items():
        if sources.compared_parts:
            device += f"; in {precision} it is {sources.device_slowdown:.4g}, of {sources.compared_parts} parts"
    counted = any(candidate.crossing_bytes > candidate.payload_bytes for candidate in candidates)
    ignored = {
        "transmission of the result": not counted,
        "bytes of the protocol": not counted,
        "round-trip time": not any(choice.round_trip_ms for choice in result.selection.links),
        "queueing at the edge": True,
    }
    return {
        "device_slowdown": settings.device_slowdown,
        "device_ms": device,
        "edge_ms": f"measured on target {result.target} here",
        "latency_runs": sorted({row.run for row in result.rows}),
        "comparison": comparison(result.rows),
        "ignored": ", ".join(what for what, is_ignored in ignored.items() if is_ignored),
    }


def comparison(rows: Sequence[Latency]) -> str:
    """Return in words how far the times of `rows` can be compared: those of a target, taken in one sitting or more."""
    sittings = {target: {row.run for row in rows if row.target == target} for target in {row.target for row in rows}}
    if all(len(runs) == 1 for runs in sittings.values()):
        return "all times of a target are of one sitting"
    alone = [row for row in rows if row.factor is None and len(sittings[row.target]) > 1]
    if alone:
        return (
            f"{len(alone)} of {len(rows)} times are of sittings without a reference network in common with the newest "
            "one, and as far off as the machine moved in between; measure all in one sitting with: coopexport bench"
        )
    return "times of earlier sittings are multiplied by how much the reference network of both changed"


def plan_inputs(result: ProjectSelection) -> dict[str, str]:
    """Return what the plan is made from: the bundles with all that they record, the latencies and the settings."""
    bundles = [[item.whole, *item.splits, *item.forms] for item in result.variants]
    links = [[choice.link, choice.goodput_bps, choice.round_trip_ms] for choice in result.selection.links]
    return {
        "bundles": digest([[bundle.model_dump(mode="json") for bundle in one] for one in bundles]),
        "latencies": digest([asdict(row) for row in result.rows]),
        "select settings": digest([result.settings.model_dump(mode="json"), result.target, links]),
        FORMAT: SCHEMA,
    }


def _files(variants_found: Sequence[VariantFiles], candidate: Candidate) -> dict[str, str]:
    """Return the graphs that a candidate runs, by role, relative to the plan's folder."""
    files = next(item for item in variants_found if item.variant == candidate.variant)
    layer = WHOLE if candidate.layer in (INPUT, OUTPUT) else candidate.layer
    for form in files.forms:
        if (form.layer, form.precision) == (layer, candidate.precision):
            return {role: f"{files.variant}/{made.file.file}" for role, made in form.roles.items()}
    if layer == WHOLE:
        return {"whole": f"{files.variant}/{files.whole.model.file}"}
    split = next(item for item in files.splits if item.layer == candidate.layer)
    return {"head": f"{files.variant}/{split.head.file}", "tail": f"{files.variant}/{split.tail.file}"}


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None and value != ""}
