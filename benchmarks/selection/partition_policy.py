"""The plan file: all candidates, which is best at which goodput, and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.selection.baselines import baselines
from benchmarks.selection.candidates import VariantFiles
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate
from exporter.project.freshness import FORMAT, digest
from exporter.project.settings import Project
from exporter.variants.plans import ORIGINAL
from jetson.files.json_files import write_json
from jetson.runtime.partition_policy import SCHEMA

PLAN_FILE = "plan.json"


def write_partition_policy(project: Project, result: ProjectSelection) -> Path:
    """Write the plan file into the project's output and return its path; raises OSError."""
    selection, settings = result.selection, result.settings
    content: dict[str, Any] = {
        "made_from": plan_inputs(result),
        "assumptions": {
            "device_slowdown": settings.device_slowdown,
            "device_ms": f"measured on target {result.target} here, times device_slowdown: not measured on a device",
            "edge_ms": f"measured on target {result.target} here",
            "latency_runs": sorted({row.run for row in result.rows}),
            "ignored": "transmission of the result, round-trip time, queueing at the edge",
        },
        "bound": {
            "metric": result.metric,
            "maximum_loss_points": settings.maximum_loss_points,
            "reference": result.reference,
            "reference_variant": ORIGINAL,
        },
        "candidates": [
            {**_without_none(asdict(candidate)), "files": _files(result.variants, candidate)}
            for candidate in selection.candidates
        ],
        "intervals": [asdict(interval) for interval in selection.intervals],
        "links": [
            {
                **asdict(choice),
                "baselines": {
                    baseline.name: {"candidate": baseline.candidate, "latency_ms": baseline.latency_ms}
                    for baseline in baselines(selection, choice.goodput_bps)
                },
            }
            for choice in selection.links
        ],
    }
    path = project.output / PLAN_FILE
    write_json(str(path), SCHEMA, content)
    return path


def plan_inputs(result: ProjectSelection) -> dict[str, str]:
    """Return what the plan is made from: the bundles with all that they record, the latencies and the settings."""
    bundles = [[item.whole, *item.splits] for item in result.variants]
    return {
        "bundles": digest([[bundle.model_dump(mode="json") for bundle in one] for one in bundles]),
        "latencies": digest([asdict(row) for row in result.rows]),
        "select settings": digest([result.settings.model_dump(mode="json"), result.target]),
        FORMAT: SCHEMA,
    }


def _files(variants_found: Sequence[VariantFiles], candidate: Candidate) -> dict[str, str]:
    """Return the graphs that a candidate runs, by role, relative to the plan's folder."""
    files = next(item for item in variants_found if item.variant == candidate.variant)
    if candidate.layer in (INPUT, OUTPUT):
        return {"whole": f"{files.variant}/{files.whole.model.file}"}
    split = next(item for item in files.splits if item.layer == candidate.layer)
    return {"head": f"{files.variant}/{split.head.file}", "tail": f"{files.variant}/{split.tail.file}"}


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None and value != ""}
