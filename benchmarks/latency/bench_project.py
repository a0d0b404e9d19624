"""Measure the heads, codecs and tails of a project on this machine, and keep the run in its latency table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.latency.bench import run_benchmark
from benchmarks.latency.measured_items import MeasuredItems, item_settings, items_to_measure
from benchmarks.latency.reference import reference_stage
from benchmarks.latency.resources.energy import with_energy
from benchmarks.latency.resources.peak_memory import measure_peak_memory, with_peak_memory
from benchmarks.latency.run import LatencyRun, write_run
from benchmarks.latency.stages import TimedStage, stages_of_layer, stages_of_whole
from benchmarks.latency.table import TABLE_FILE, import_run
from engines.building.build import build
from engines.building.build_items import FLOAT32, WHOLE
from engines.building.evidence import is_own
from engines.host.this_machine import this_machine
from engines.targets.lookup import Target, find_target
from engines.targets.project_targets import build_settings, own_targets
from exporter.progress import OnProgress, counter, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import BenchSection, Precision, Project
from exporter.variants.choice import naming
from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError
from jetson.files.atomic_files import sha256_of_file
from jetson.runtime.sampling import until_steady

RUNS_FOLDER = "runs"
# Gets in words which bundles were not converted to which precision.
OnWithoutForm: TypeAlias = Callable[[tuple[str, ...]], None]


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    `variants`: names or patterns, none for all; `layers`: bundles, none for all; `target`: what runs here. `rounds`:
    how often each part is measured; `warm_up`: the least number of rounds before those that are kept, which go on until
    all parts are steady; `precisions`: in which networks are measured; `batches`: images at once; `energy`: whether the
    energy of each part is measured, too. None: as the project file says.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    target: str = "cpu"
    rounds: int | None = None
    warm_up: int | None = None
    precisions: tuple[Precision, ...] | None = None
    batches: tuple[int, ...] | None = None
    energy: bool | None = None


@dataclass(frozen=True)
class BenchResult:
    """What was measured (parts that failed are in `run` with their reasons), and where it is kept.

    `path`: the run's file; `table`: the latency table, and `rows_added` to it; `left_out`: how many variants are not
    for any of the layers; `without_form`: in words, which bundles were not converted to which precision.
    """

    run: LatencyRun
    path: Path
    table: Path
    rows_added: int
    left_out: int
    without_form: tuple[str, ...] = ()


def bench_project(
    project: Project,
    request: BenchRequest = BenchRequest(),
    on_progress: OnProgress = no_progress,
    on_result: Callable[[LatencyRun], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
    on_without_form: OnWithoutForm | None = None,
) -> BenchResult:
    """Measure on one thread, in each precision and batch; build what is missing for it, and keep every sample.

    The reference network is in all rounds; where the target does not take it, the run says so.

    `on_result` gets the run before anything of it is written, `on_written` the run's file once it is; before all else
    `on_left_out` gets how many variants are not for any of the layers, and `on_without_form`, in words, which bundles
    were not converted to which precision, if any. Raises CoopexportError when a variant, a layer or the target is
    unknown, a bundle is missing or stale, nothing has a form in a precision, an engine cannot be built, or the table is
    none; OSError when a file cannot be written.
    """
    settings = bench_section(project, request)
    target = find_target(request.target, own_targets(project.settings.targets))
    _check_here(target)
    found = found_items(project, request, settings, on_left_out, on_without_form)
    _build_all(project, found, target, settings.batches, on_progress)
    peaks = measure_peak_memory(found.items, target, settings.batches) if settings.memory else {}
    stages = _parts(found, target, settings.batches)
    on_progress("measuring", 0, settings.warm_up + settings.rounds)
    run = run_benchmark(
        stages,
        target,
        settings.rounds,
        until_steady(settings.warm_up),
        lambda done, total: on_progress("measuring", done, total),
        reference_stage(target),
    )
    run = with_peak_memory(run, peaks)
    if settings.energy:  # asked for: a PC tells of its processors alone
        runs = [stage.run for stage in stages]
        run = with_energy(run, runs, settings.energy_seconds, lambda done, of: on_progress("energy", done, of))
    return kept_run(project, run, found, on_result, on_written)


def bench_section(project: Project, request: BenchRequest) -> BenchSection:
    """Return `[bench]` with what the request says; raises CoopexportError for a value that is not allowed."""
    return overridden(
        project.settings.bench,
        {
            "rounds": request.rounds,
            "warm_up": request.warm_up,
            "precisions": request.precisions,
            "batches": request.batches,
            "energy": request.energy,
        },
    )


def found_items(
    project: Project,
    request: BenchRequest,
    settings: BenchSection,
    on_left_out: Callable[[int], None] | None,
    on_without_form: OnWithoutForm | None,
) -> MeasuredItems:
    """Return what a request measures, and tell what it leaves out; errors and callbacks as of `bench_project`."""
    found = items_to_measure(project, request.variants, request.layers, settings.precisions)
    if on_left_out is not None:
        on_left_out(len(found.left_out))
    if on_without_form is not None and found.without_form:
        on_without_form(found.without_form)
    return found


def bench_settings(project: Project, target: Target) -> BuildSettings:
    """Return how engines to measure are built, before `item_settings`: as the project says, but float32, one image."""
    return build_settings(target, project.settings.build)._replace(precision=FLOAT32, batches=(1, 1, 1))


def kept_run(
    project: Project,
    run: LatencyRun,
    found: MeasuredItems | None,
    on_result: Callable[[LatencyRun], None] | None,
    on_written: Callable[[Path], None] | None,
) -> BenchResult:
    """Write a run and put it into the latency table; callbacks as of `bench_project`.

    `found`: what was to be measured, None for a run that somebody brings.
    """
    if on_result is not None:
        on_result(run)
    path = write_run(project.output / RUNS_FOLDER, run)
    if on_written is not None:
        on_written(path)
    table = project.output / TABLE_FILE
    rows = import_run(table, run, sha256_of_file(str(path)))
    left_out, without_form = (0, ()) if found is None else (len(found.left_out), found.without_form)
    return BenchResult(run, path, table, rows, left_out, without_form)


def _check_here(target: Target) -> None:
    """Refuse to measure on this machine what is another machine's."""
    if target.backend == "onnxruntime" and not is_own(target, this_machine()):
        raise InputError(
            f'target "{target.name}" is another machine than this one',
            fix="measure there: coopexport bench --device user@host, or write an order for it with --order order.zip",
        )


def _build_all(
    project: Project, found: MeasuredItems, target: Target, batches: Sequence[int], on_progress: OnProgress
) -> None:
    """Build what is missing for the target, as the project says, for batches of fixed sizes."""
    machine = this_machine()
    settings = bench_settings(project, target)
    on_item = counter(on_progress, f"building for {target.name}", len(found.items) * len(batches))
    on_item(0)
    for done, (item, batch) in enumerate(itertools.product(found.items, batches), start=1):
        with naming(item.variant):
            build(item, target, item_settings(settings, item.precision, batch), machine=machine)
        on_item(done)


def _parts(found: MeasuredItems, target: Target, batches: Sequence[int]) -> list[TimedStage]:
    """Return what is timed: the parts of every cut, and of every variant its images and its whole network."""
    stages: list[TimedStage] = []
    for folder in found.folders:
        items = [item for item in found.items if item.folder == folder]
        with naming(items[0].variant):
            for item, batch in itertools.product(items, batches):
                if item.role == "head":
                    stages += stages_of_layer(folder, item.layer, target, item.precision, batch)
            whole = [item.precision for item in items if item.role == WHOLE]
            for batch in batches:
                stages += stages_of_whole(folder, target, whole, batch)
    return stages
