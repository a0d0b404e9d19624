"""Select from what lies in a project's folder: candidates out of its bundles and its latency table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.latency.table import TABLE_FILE, Latency, current_latencies
from benchmarks.links.link import Link
from benchmarks.links.project_links import project_links, trace_distribution
from benchmarks.links.wire import wire_bytes
from benchmarks.planning.quantiles import goodput_at_percentile
from benchmarks.selection.candidates import VariantFiles, WireBytes, list_candidates, read_variant
from benchmarks.selection.part_times import Sources, TargetTimes, measured_slowdown, times_of_target
from benchmarks.selection.predicted_times import predicted_latencies
from benchmarks.selection.selector import Constraints, LinkLike, Options, Selection, select
from exporter.layers.names import display_name
from exporter.project.freshness import changed_inputs
from exporter.project.settings import Project, SelectSection
from exporter.variants.layer_graphs import read_layer_graph, trained_records, variants
from exporter.variants.plans import ORIGINAL, PRUNED
from exporter.variants.record import VariantRecord
from exporter.variants.staleness import check_whole, measured_inputs
from jetson.errors import InputError, StaleError


@dataclass(frozen=True)
class ProjectSelection:
    """A selection with all that explains it.

    `rows`: of the edge's target, and of the device's where there is one. `sources`: the same as the candidates' times
    were taken from it. `records`: of the variants of pruning in two steps, in order.
    """

    selection: Selection
    variants: tuple[VariantFiles, ...]
    rows: tuple[Latency, ...]
    settings: SelectSection
    target: str
    reference: float
    metric: str
    sources: Sources
    records: tuple[VariantRecord, ...] = ()


def options_of(settings: SelectSection) -> Options:
    """Return what the project file's section says beside links and the accuracy bound."""
    constraints = Constraints(
        maximum_device_memory_bytes=settings.maximum_device_memory_bytes,
        maximum_device_mj=settings.maximum_device_mj,
        batch=settings.batch,
        precisions=settings.precisions,
        upload=settings.upload,
        cuts=settings.cuts,
    )
    return Options(
        settings.maximum_latency_ms, settings.round_trip_ms, settings.goodput_samples_bps, settings.latency_percentile,
        settings.device_loads, settings.edge_loads, settings.hysteresis_percent, constraints,
    )  # fmt: skip


def select_for_project(
    project: Project, settings: SelectSection, target: str, links: Sequence[LinkLike] | None = None
) -> ProjectSelection:
    """Select from what lies in the project's folder.

    `target`: whose rows of the latency table stand for the edge. `links`: in the place of the project's. What was not
    measured is predicted, where that can be. Raises CoopexportError when something is missing.
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
        names = [display_name(graph.layers, layer) for layer in graph.layers]
        files = read_variant(folder, names, steps[variant], graph.layers[-1].feature_bytes)
        check_whole(project, graph, files.whole, measured)
        found.append(files)
    original = next((item for item in found if item.variant == ORIGINAL), None)
    if original is None:
        raise StaleError(
            f"variant {ORIGINAL} is not split: losses are counted from it", fix="run: coopexport split --all"
        )
    _check_same_data(found, original)
    rows, sources = _times(project, found, target, settings)
    # What the two machines measured both says how much slower the device is, and no assumption does.
    settings = settings.model_copy(update={"device_slowdown": sources.device_slowdown})
    reference = original.whole.metric.value
    candidates = list_candidates(found, sources, reference, wire_bytes_of(settings))
    if links is None and project.settings.links:
        links = _links_of(project, settings.latency_percentile)
    given = settings.goodput_bps if links is None else links
    selection = select(candidates, given, settings.maximum_loss_points, options_of(settings))
    return ProjectSelection(
        selection, tuple(found), rows, settings, target, reference, original.whole.metric.name, sources, records
    )


def _links_of(project: Project, percentile: float) -> list[Link]:
    """Return the project's links, and for each trace the goodput that a percentile of latency is taken at."""
    found = list(project_links(project))
    for link in project_links(project):
        if project.settings.links[link.name].trace is not None:
            over_time = trace_distribution(project, link.name)
            goodput_bps = goodput_at_percentile(over_time.goodput_bps, percentile, over_time.shares)
            found.append(replace(link, name=f"{link.name}, p{percentile:g} over its trace", goodput_bps=goodput_bps))
    return found


def wire_bytes_of(settings: SelectSection) -> WireBytes:
    """Return what counts all bytes that cross, as the settings' protocol carries them."""
    return lambda payload_bytes, reply_bytes: wire_bytes(payload_bytes, reply_bytes, settings.protocol)


def _times(
    project: Project, variants_found: Sequence[VariantFiles], target: str, settings: SelectSection
) -> tuple[tuple[Latency, ...], Sources]:
    """Return the rows of both machines, and where candidates take their times from.

    Raises InputError when the table has no row of the device's target.
    """
    table = project.output / TABLE_FILE
    current = current_latencies(table)

    def times(name: str) -> TargetTimes:
        predicted = predicted_latencies(project, variants_found, current.rows, name)
        return times_of_target(name, current.rows, current.failures, predicted, current.expired)

    device = None
    if settings.device_target is not None:
        device = times(settings.device_target)
        if not device.rows and not device.failed:
            known = ", ".join(sorted({row.target for row in current.rows})) or "none at all"
            raise InputError(
                f"device_target: the latency table has nothing of {settings.device_target}; it has {known}", path=table
            )
    taken = tuple(row for row in current.rows if row.target in (target, settings.device_target))
    edge = times(target)
    compared = None if device is None else measured_slowdown(device, edge)
    slowdown, parts = compared or (settings.device_slowdown, 0)
    return taken, Sources(edge, slowdown, device, parts)


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
    """Return the fastest for each of `SLOWDOWNS` and for the one assumed, in order; all else stays.

    What was measured on the device keeps its time.
    """
    links = [_SameLink(choice.link, choice.goodput_bps, choice.round_trip_ms) for choice in result.selection.links]
    found = []
    for slowdown in sorted({*SLOWDOWNS, result.settings.device_slowdown}):
        sources = replace(result.sources, device_slowdown=slowdown)
        others = list_candidates(result.variants, sources, result.reference, wire_bytes_of(result.settings))
        pairs = zip(result.selection.candidates, others, strict=True)
        scaled = [replace(candidate, device_ms=other.device_ms) for candidate, other in pairs]
        found.append((slowdown, select(scaled, links, result.settings.maximum_loss_points)))
    return found


class _SameLink(NamedTuple):
    name: str
    goodput_bps: float
    round_trip_ms: float
