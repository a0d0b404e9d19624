"""Select from what lies in a project's folder: candidates out of its bundles and its latency table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.latency.table import TABLE_FILE, CurrentLatencies, Latency, current_latencies
from benchmarks.links.link import Link
from benchmarks.links.project_links import project_links, trace_distribution
from benchmarks.links.wire import wire_bytes
from benchmarks.planning.constraints import device_costs
from benchmarks.planning.latency_model import Candidate
from benchmarks.planning.quantiles import goodput_at_percentile
from benchmarks.selection.candidates import VariantFiles, WireBytes, list_candidates, read_variant, with_forms
from benchmarks.selection.part_times import Sources, TargetTimes, measured_slowdown, times_of_target
from benchmarks.selection.predicted_times import predicted_latencies
from benchmarks.selection.selector import Constraints, LinkLike, Options, Selection, select
from engines.building.build_items import FLOAT32
from exporter.bundles.precision_file import PRECISIONS
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


def costs_of(result: ProjectSelection, candidate: Candidate) -> str:
    """Return in words what a candidate takes of the device's memory and energy where these have a bound, or nothing."""
    return "; ".join(device_costs(candidate, options_of(result.settings).constraints))


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
    current = _current(project, settings.batch, [target, settings.device_target])
    others = [precision for precision in current if precision != FLOAT32]
    found = [with_forms(files, project.variant_folder(files.variant), others) for files in found]
    rows, sources = _times(project, found, current, target, settings)
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


def _current(project: Project, batch: int, targets: Sequence[str | None]) -> dict[str, CurrentLatencies]:
    """Return what the table says of a batch by precision: float32, and others that `targets` have parts in."""
    table = project.output / TABLE_FILE
    found = {FLOAT32: current_latencies(table, batch=batch)}
    for precision in PRECISIONS:
        other = current_latencies(table, precision, batch)
        if {row.target for row in other.rows}.union(key[0] for key in (*other.failures, *other.expired)) & {*targets}:
            found[precision] = other
    return found


def _times(
    project: Project,
    variants_found: Sequence[VariantFiles],
    current: Mapping[str, CurrentLatencies],
    target: str,
    settings: SelectSection,
) -> tuple[tuple[Latency, ...], Sources]:
    """Return the rows of both machines, and where candidates take their times from.

    Raises InputError when the table has no row of the device's target.
    """
    rows = tuple(row for one in current.values() for row in one.rows)
    edge = _of_target(project, variants_found, current, rows, target)
    device = None
    if settings.device_target is not None:
        device = _of_target(project, variants_found, current, rows, settings.device_target)
        if not any(times.rows or times.failed for times in device.values()):
            known = ", ".join(sorted({row.target for row in rows})) or "none at all"
            which = "" if settings.batch == 1 else f" in batches of {settings.batch}"
            raise InputError(
                f"device_target: the latency table has nothing of {settings.device_target}{which}; it has {known}",
                path=project.output / TABLE_FILE,
            )
    taken = tuple(row for row in rows if row.target in (target, settings.device_target))
    return taken, _sources(edge, device, settings)


def _of_target(
    project: Project,
    variants_found: Sequence[VariantFiles],
    current: Mapping[str, CurrentLatencies],
    rows: Sequence[Latency],
    name: str,
) -> dict[str, TargetTimes]:
    """Return what is known of a target, by precision."""
    predicted = predicted_latencies(project, variants_found, rows, name)
    return {
        precision: times_of_target(
            name, one.rows, one.failures, [row for row in predicted if row.precision == precision], one.expired
        )
        for precision, one in current.items()
    }


def _sources(
    edge: Mapping[str, TargetTimes], device: Mapping[str, TargetTimes] | None, settings: SelectSection
) -> Sources:
    """Return where times come from; a slowdown is that of the same precision, or says of which other it is."""
    found: dict[str, Sources] = {}
    for precision, times in edge.items():
        there = None if device is None else device[precision]
        slowdown, parts, slowdown_from = settings.device_slowdown, 0, ""
        compared = None if there is None else measured_slowdown(there, times)
        if compared is not None:
            slowdown, parts = compared
        elif precision != FLOAT32 and found[FLOAT32].compared_parts:
            slowdown, slowdown_from = found[FLOAT32].device_slowdown, FLOAT32
        found[precision] = Sources(times, slowdown, there, parts, settings.batch, slowdown_from=slowdown_from)
    return replace(found.pop(FLOAT32), others=found)


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
        sources = result.sources.with_slowdown(slowdown)
        others = list_candidates(result.variants, sources, result.reference, wire_bytes_of(result.settings))
        pairs = zip(result.selection.candidates, others, strict=True)
        scaled = [replace(candidate, device_ms=other.device_ms) for candidate, other in pairs]
        found.append((slowdown, select(scaled, links, result.settings.maximum_loss_points)))
    return found


class _SameLink(NamedTuple):
    name: str
    goodput_bps: float
    round_trip_ms: float
