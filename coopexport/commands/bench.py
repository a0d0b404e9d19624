"""The command bench: latencies of heads, codecs and tails on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import target_option
from coopexport.output import (
    MOST_TABLES,
    left_out,
    next_step,
    print_table,
    progress,
    project_option,
    variant_option,
    wrote,
)

if TYPE_CHECKING:
    from benchmarks.latency.run import LatencyRun
    from exporter.project.settings import Project


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Bundle to measure, e.g. conv4_1; default: all.")
@target_option
@click.option("--rounds", type=click.IntRange(min=8), help="How often each part is measured.")
@click.option("--warm-up", type=click.IntRange(min=1), help="How many rounds come before.")
def bench(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    target_name: str,
    rounds: int | None,
    warm_up: int | None,
) -> None:
    """Measure heads, codecs and tails on this machine, in float32, one image at a time, into the latency table."""
    from benchmarks.latency.run import write_run
    from benchmarks.latency.table import import_run
    from benchmarks.selection.project import TABLE_FILE
    from exporter.project.settings import load_project

    project = load_project(project_file)
    settings = project.settings.bench
    run = bench_project(
        project, variant_names, layer_names, target_name, rounds or settings.rounds, warm_up or settings.warm_up
    )
    print_run(run)
    path = write_run(project.output / "runs", run)
    wrote(path)
    rows = import_run(project.output / TABLE_FILE, run)
    click.echo(f"added {rows} rows to {TABLE_FILE}")
    next_step("coopexport select")


def bench_project(
    project: Project,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    target_name: str,
    rounds: int,
    warm_up: int,
) -> LatencyRun:
    """Build what is missing for the target, as the project says, but in float32 for one image; measure everything."""
    from benchmarks.latency.bench import Part, parts_of_layer, parts_of_whole
    from benchmarks.latency.bench import bench as measure
    from engines.building.build import build
    from engines.building.build_items import WHOLE
    from engines.building.project_items import items_of_project
    from engines.host.this_machine import this_machine
    from engines.targets.lookup import find_target
    from engines.targets.project_targets import build_settings, own_targets
    from exporter.variants.choice import naming

    target, machine = find_target(target_name, own_targets(project.settings.targets)), this_machine()
    found = items_of_project(project, variant_names, layer_names)
    items = found.items
    left_out(len(found.left_out), layer_names)
    chosen = build_settings(target, project.settings.build)
    settings = chosen._replace(precision="fp32", batches=(1, 1, 1), dla_core=None)  # no DLA computes in float32
    with progress(f"building for {target.name}", len(items)) as on_progress:
        for done, item in enumerate(items, start=1):
            with naming(item.variant):
                build(item, target, settings, machine=machine)
            on_progress(done)
    parts: list[Part] = []
    for item in items:
        with naming(item.variant):
            if item.role == "head":
                parts += parts_of_layer(item.folder, item.layer, target)
            elif item.role == WHOLE:
                parts += parts_of_whole(item.folder, target)
    with progress("measuring", rounds + warm_up) as on_progress:
        return measure(parts, target, rounds, warm_up, lambda done: on_progress(done + 1))


def print_run(run: LatencyRun) -> None:
    """Print the median, and the spread, of every part of a run."""
    from benchmarks.latency.statistics import summarise

    rows = []
    for item in run.items:
        name = item.part if item.codec is None else f"{item.part} {item.codec}"
        if item.samples_ms is None:
            rows.append((item.variant, item.layer, name, "failed", item.failure or "", ""))
            continue
        summary = summarise(item.samples_ms)
        p90 = "" if summary.p90_ms is None else f"{summary.p90_ms:.4f}"
        rows.append((item.variant, item.layer, name, f"{summary.p50_ms:.4f}", p90, f"{100 * summary.cv:.0f} %"))
    title = f"Latency on {run.host['processor']}, {run.threads} thread, {run.rounds} interleaved rounds"
    if len({item.variant for item in run.items}) > MOST_TABLES:
        print_table(f"{title}: medians in ms", ["variant", "cut", *_PARTS], rows_by_cut(run), left=2)
        for item in run.items:
            if item.failure is not None:
                click.echo(f"failed: {item.variant} {item.layer} {item.part}: {item.failure}", err=True)
    else:
        print_table(title, ["variant", "cut", "part", "median ms", "p90 ms", "cv"], rows, left=3)


# What many variants show of each cut; the others hardly differ between them, and are in the run's file.
_PARTS = ("head", "encode", "decode", "tail", "whole")


def rows_by_cut(run: LatencyRun) -> list[tuple[str, ...]]:
    """Return variant, cut and the medians of `_PARTS` in milliseconds; nothing for a part that a cut has not."""
    from benchmarks.latency.statistics import summarise

    found: dict[tuple[str, str], dict[str, str]] = {}
    for item in run.items:
        failed = item.samples_ms is None
        shown = "failed" if failed else f"{summarise(item.samples_ms or ()).p50_ms:.4f}"
        cells = found.setdefault((item.variant, item.layer), {})
        if item.layer != "whole" or item.part == "whole":  # encode and decode of images: the same for all variants
            cells[item.part] = shown
    return [(*key, *(cells.get(part, "") for part in _PARTS)) for key, cells in found.items()]
