"""Measure the heads, codecs and tails of a project on this machine, and keep the run in its latency table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency.bench import run_benchmark
from benchmarks.latency.reference import reference_stage
from benchmarks.latency.run import LatencyRun, write_run
from benchmarks.latency.stages import TimedStage, stages_of_layer, stages_of_whole
from benchmarks.latency.table import TABLE_FILE, import_run
from engines.building.build import build
from engines.building.build_items import WHOLE, BuildItem
from engines.building.evidence import is_own
from engines.building.project_items import items_of_project
from engines.host.this_machine import this_machine
from engines.targets.lookup import Target, find_target
from engines.targets.project_targets import build_settings, own_targets
from exporter.progress import OnProgress, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import Project
from exporter.variants.choice import naming
from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError
from jetson.files.atomic_files import sha256_of_file
from jetson.runtime.sampling import until_steady

RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    `variants`: names or patterns, none for all; `layers`: bundles, none for all; `target`: what runs here. `rounds`:
    how often each part is measured; `warm_up`: the least number of rounds before those that are kept, which go on until
    all parts are steady; None: as the project file says.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    target: str = "cpu"
    rounds: int | None = None
    warm_up: int | None = None


@dataclass(frozen=True)
class BenchResult:
    """What was measured (parts that failed are in `run` with their reasons), and where it is kept.

    `path`: the run's file; `table`: the latency table, and `rows_added` to it; `left_out`: how many variants are not
    for any of the layers.
    """

    run: LatencyRun
    path: Path
    table: Path
    rows_added: int
    left_out: int


def bench_project(
    project: Project,
    request: BenchRequest = BenchRequest(),
    on_progress: OnProgress = no_progress,
    on_result: Callable[[LatencyRun], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
) -> BenchResult:
    """Measure in float32, one image at a time, on one thread; build what is missing for it, and keep every sample.

    The reference network is in all rounds; where the target does not take it, the run says so.

    `on_result` gets the run before anything of it is written, `on_written` the run's file once it is; `on_left_out`,
    before all else, how many variants are not for any of the layers. Raises CoopexportError when a variant, a layer or
    the target is unknown, a bundle is missing or stale, an engine cannot be built, or the table is none; OSError when a
    file cannot be written.
    """
    settings = overridden(project.settings.bench, {"rounds": request.rounds, "warm_up": request.warm_up})
    target = find_target(request.target, own_targets(project.settings.targets))
    _check_here(target)
    found = items_of_project(project, request.variants, request.layers)
    if on_left_out is not None:
        on_left_out(len(found.left_out))
    _build_all(project, found.items, target, on_progress)
    stages = _parts(found.items, target)
    on_progress("measuring", 0, settings.warm_up + settings.rounds)
    run = run_benchmark(
        stages,
        target,
        settings.rounds,
        until_steady(settings.warm_up),
        lambda done, total: on_progress("measuring", done, total),
        reference_stage(target),
    )
    return kept_run(project, run, len(found.left_out), on_result, on_written)


def bench_settings(project: Project, target: Target) -> BuildSettings:
    """Return how engines to measure are built: as the project says, but in float32 for one image."""
    chosen = build_settings(target, project.settings.build)
    return chosen._replace(precision="fp32", batches=(1, 1, 1), dla_core=None)  # no DLA computes in float32


def kept_run(
    project: Project,
    run: LatencyRun,
    left_out: int,
    on_result: Callable[[LatencyRun], None] | None,
    on_written: Callable[[Path], None] | None,
) -> BenchResult:
    """Write a run and put it into the latency table; callbacks as of `bench_project`."""
    if on_result is not None:
        on_result(run)
    path = write_run(project.output / RUNS_FOLDER, run)
    if on_written is not None:
        on_written(path)
    table = project.output / TABLE_FILE
    return BenchResult(run, path, table, import_run(table, run, sha256_of_file(str(path))), left_out)


def _check_here(target: Target) -> None:
    """Refuse to measure on this machine what is another machine's."""
    if target.backend == "onnxruntime" and not is_own(target, this_machine()):
        raise InputError(
            f'target "{target.name}" is another machine than this one',
            fix="measure there: coopexport bench --device user@host, or write an order for it with --order order.zip",
        )


def _build_all(project: Project, items: Sequence[BuildItem], target: Target, on_progress: OnProgress) -> None:
    """Build what is missing for the target, as the project says, but in float32 for one image."""
    machine = this_machine()
    settings = bench_settings(project, target)
    task = f"building for {target.name}"
    on_progress(task, 0, len(items))
    for done, item in enumerate(items, start=1):
        with naming(item.variant):
            build(item, target, settings, machine=machine)
        on_progress(task, done, len(items))


def _parts(items: Sequence[BuildItem], target: Target) -> list[TimedStage]:
    """Return what is timed: head, encode, decode and tail of every cut, and the whole network of every variant."""
    stages: list[TimedStage] = []
    for item in items:
        with naming(item.variant):
            if item.role == "head":
                stages += stages_of_layer(item.folder, item.layer, target)
            elif item.role == WHOLE:
                stages += stages_of_whole(item.folder, target)
    return stages
