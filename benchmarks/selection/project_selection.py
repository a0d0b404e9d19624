"""Select from what lies in a project's folder: candidates out of its bundles and its latency table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.latency.table import TABLE_FILE, Latency, failures, latest
from benchmarks.selection.candidates import VariantFiles, list_candidates, read_variant
from benchmarks.selection.selector import Selection, select
from exporter.layers.names import display_name
from exporter.project.freshness import changed_inputs
from exporter.project.settings import Project, SelectSection
from exporter.variants.layer_graphs import read_layer_graph, trained_records, variants
from exporter.variants.plans import ORIGINAL, PRUNED
from exporter.variants.record import VariantRecord
from exporter.variants.staleness import check_whole, measured_inputs
from jetson.errors import StaleError


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
    measured = measured_inputs(project)
    records = tuple(trained_records(project))
    steps = {ORIGINAL: "original", PRUNED: "given", **{record.variant: record.step for record in records}}
    for variant in variants(project):
        folder = project.variant_folder(variant)
        if not (folder / "whole.json").is_file():
            continue
        graph = read_layer_graph(folder, variant)
        files = read_variant(folder, [display_name(graph.layers, layer) for layer in graph.layers], steps[variant])
        check_whole(project, graph, files.whole, measured)
        found.append(files)
    original = next((item for item in found if item.variant == ORIGINAL), None)
    if original is None:
        raise StaleError(
            f"variant {ORIGINAL} is not split: losses are counted from it", fix="run: coopexport split --all"
        )
    _check_same_data(found, original)
    table = project.output / TABLE_FILE
    rows = [row for row in latest(table) if row.target == target]
    failed = {key: reason for key, reason in failures(table).items() if key[0] == target}
    reference = original.whole.metric.value
    candidates = list_candidates(found, rows, settings.device_slowdown, reference, failed)
    selection = select(candidates, settings.goodput_bps, settings.maximum_loss_points)
    return ProjectSelection(
        selection, tuple(found), tuple(rows), settings, target, reference, original.whole.metric.name, records
    )


def _check_same_data(variants_found: Sequence[VariantFiles], original: VariantFiles) -> None:
    """Raise StaleError unless all variants were measured like the original: losses are differences to it."""
    wanted = original.whole.metric
    inputs = {name: original.whole.made_from.get(name) for name in ("evaluation data", "metric")}
    for files in variants_found:
        metric = files.whole.metric
        if changed_inputs(files.whole.made_from, inputs):
            raise StaleError(
                f"variant {files.variant} was measured with {metric.name} on {metric.samples} images of {metric.data}, "
                f"{ORIGINAL} with {wanted.name} on {wanted.samples} of {wanted.data}, not the same",
                fix="run for all: coopexport split --all",
            )


SLOWDOWNS = (1.0, 2.0, 5.0, 10.0, 20.0)


def other_slowdowns(result: ProjectSelection) -> list[tuple[float, Selection]]:
    """Return a selection for each of `SLOWDOWNS` and for the one assumed, in order; all else stays."""
    assumed = result.settings.device_slowdown
    goodputs = {choice.link: choice.goodput_bps for choice in result.selection.links}
    found = []
    for slowdown in sorted({*SLOWDOWNS, assumed}):
        scaled = [
            candidate
            if candidate.device_ms is None
            else replace(candidate, device_ms=candidate.device_ms * slowdown / assumed)
            for candidate in result.selection.candidates
        ]
        found.append((slowdown, select(scaled, goodputs, result.settings.maximum_loss_points)))
    return found
