"""Select for a project: candidates from its files, the plan file, and the table that is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.latency.table import TABLE_FILE, Latency, failures, latest
from benchmarks.selection.candidates import VariantFiles, list_candidates, read_variant
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Selection, latency_ms, select
from exporter.layers.names import display_name
from exporter.project.settings import Project, SelectSection
from exporter.variants.layer_graphs import ORIGINAL, PRUNED, pruning_records, read_layer_graph, variants
from exporter.variants.record import VariantRecord
from exporter.variants.staleness import require_current
from jetson.errors import CoopexportError
from jetson.files.json_files import write_json
from jetson.runtime.plan import SCHEMA

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class ProjectSelection:
    """A selection with all that explains it; `records`: of the variants of pruning in two steps, in order."""

    selection: Selection
    variants: tuple[VariantFiles, ...]
    rows: tuple[Latency, ...]
    settings: SelectSection
    target: str
    reference: float
    metric: str
    records: tuple[VariantRecord, ...] = ()


def select_for_project(project: Project, settings: SelectSection, target: str) -> ProjectSelection:
    """Select from what lies in the project's folder.

    `target`: whose rows of the latency table stand for the edge. Raises CoopexportError when something is missing.
    """
    found = []
    records = tuple(pruning_records(project))
    steps = {ORIGINAL: "original", PRUNED: "given", **{record.variant: record.step for record in records}}
    for variant in variants(project):
        folder = project.variant_folder(variant)
        if not (folder / "whole.json").is_file():
            continue
        graph = read_layer_graph(folder, variant)
        files = read_variant(folder, [display_name(graph.layers, layer) for layer in graph.layers], steps[variant])
        if files.whole.model.sha256 != graph.model_sha256:
            raise CoopexportError(
                f"variant {variant} was exported anew since it was split; run: coopexport split --all"
            )
        require_current(project, variant, files.whole)
        found.append(files)
    original = next((item for item in found if item.variant == ORIGINAL), None)
    if original is None:
        raise CoopexportError(
            f"variant {ORIGINAL} is not split: losses are counted from it; run: coopexport split --all"
        )
    _require_same_data(found, original)
    table = project.output / TABLE_FILE
    rows = [row for row in latest(table) if row.target == target]
    failed = {key: reason for key, reason in failures(table).items() if key[0] == target}
    reference = original.whole.metric.value
    candidates = list_candidates(found, rows, settings.device_slowdown, reference, failed)
    selection = select(candidates, settings.goodput_bps, settings.maximum_loss_points)
    return ProjectSelection(
        selection, tuple(found), tuple(rows), settings, target, reference, original.whole.metric.name, records
    )


def _require_same_data(variants_found: Sequence[VariantFiles], original: VariantFiles) -> None:
    """Raise CoopexportError unless all variants were measured like the original: losses are differences to it."""
    wanted = original.whole.metric
    for files in variants_found:
        metric = files.whole.metric
        if (metric.name, metric.samples, metric.data_sha256) != (wanted.name, wanted.samples, wanted.data_sha256):
            raise CoopexportError(
                f"variant {files.variant} was measured with {metric.name} on {metric.samples} images of {metric.data}, "
                f"{ORIGINAL} with {wanted.name} on {wanted.samples} of {wanted.data}, not the same; run for all: "
                "coopexport split --all"
            )


def write_plan(project: Project, result: ProjectSelection) -> None:
    """Write the plan file; raises OSError."""
    selection, settings = result.selection, result.settings
    content: dict[str, Any] = {
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
    write_json(str(project.output / PLAN_FILE), SCHEMA, content)


def _files(variants_found: Sequence[VariantFiles], candidate: Candidate) -> dict[str, str]:
    """Return the graphs that a candidate runs, by role, relative to the plan's folder."""
    files = next(item for item in variants_found if item.variant == candidate.variant)
    if candidate.layer in (INPUT, OUTPUT):
        return {"whole": f"{files.variant}/{files.whole.model.file}"}
    split = next(item for item in files.splits if item.layer == candidate.layer)
    return {"head": f"{files.variant}/{split.head.file}", "tail": f"{files.variant}/{split.tail.file}"}


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None and value != ""}


@dataclass(frozen=True)
class Baseline:
    """A candidate to compare with, and its latency on one link."""

    name: str
    candidate: int
    latency_ms: float


def baselines(selection: Selection, goodput_bps: float) -> list[Baseline]:
    """Return what a choice is compared with at a goodput: no split, and the best split, for each family of variants.

    Each is the fastest of its family. Without a split a baseline stands even where none of the family keeps the
    accuracy bound; the best split is one that may be chosen. Only latencies that are known are returned.
    """
    found = []
    for family in dict.fromkeys(candidate.compared_as for candidate in selection.candidates):
        indexed = [(i, c) for i, c in enumerate(selection.candidates) if c.compared_as == family and _timed(c)]
        kinds = {
            f"device only, {family}": [i for i, c in indexed if c.layer == OUTPUT],
            f"edge only raw, {family}": [i for i, c in indexed if c.layer == INPUT and c.coding == "raw"],
            f"edge only JPEG, {family}": [i for i, c in indexed if c.layer == INPUT and c.coding != "raw"],
            f"best split, {family}": [i for i, c in indexed if c.layer not in (INPUT, OUTPUT) and not c.reason],
        }
        for name, indices in kinds.items():
            if indices:
                keeping = [i for i in indices if not selection.candidates[i].reason] or indices
                best = min(keeping, key=lambda i: latency_ms(selection.candidates[i], goodput_bps))
                found.append(Baseline(name, best, latency_ms(selection.candidates[best], goodput_bps)))
    return found


def _timed(candidate: Candidate) -> bool:
    return candidate.device_ms is not None and candidate.edge_ms is not None


def describe(candidate: Candidate) -> str:
    """Return a candidate in a few words, for tables."""
    if candidate.layer == OUTPUT:
        return f"{candidate.variant}, all on the device"
    if candidate.layer == INPUT:
        return f"{candidate.variant}, all on the edge ({candidate.coding})"
    return f"{candidate.variant}, cut after {candidate.layer} ({candidate.coding})"


def result_rows(result: ProjectSelection) -> Sequence[tuple[str, str, str, str, str, str]]:
    """Return the printed table: link, what, candidate, bytes, metric, latency."""
    rows = []
    for choice in result.selection.links:
        entries = [(b.name, b.candidate, b.latency_ms) for b in baselines(result.selection, choice.goodput_bps)]
        entries.append(("chosen", choice.candidate, choice.latency_ms))
        for position, (name, index, latency) in enumerate(entries):
            candidate = result.selection.candidates[index]
            link = f"{choice.link} {choice.goodput_bps / 1e6:g} Mbit/s" if position == 0 else ""
            rows.append(
                (
                    link,
                    name,
                    describe(candidate) if name.startswith(("best", "chosen")) or candidate.family else "",
                    f"{candidate.payload_bytes:.0f}",
                    f"{100 * candidate.metric:.2f}",
                    f"{latency:.3f}",
                )
            )
    return rows
