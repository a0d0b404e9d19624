"""The command bench: latencies of heads, codecs and tails on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import target_option
from coopexport.output import (
    MAX_TABLES,
    left_out,
    next_step,
    print_table,
    progress_bar,
    project_option,
    variant_option,
    wrote,
)

if TYPE_CHECKING:
    from benchmarks.latency.run import LatencyRun


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
    from benchmarks.latency.bench_project import BenchRequest, bench_project
    from exporter.project.settings import load_project

    request = BenchRequest(variant_names, layer_names, target_name, rounds, warm_up)
    with progress_bar() as on_progress:
        result = bench_project(
            load_project(project_file), request, on_progress, print_run, lambda n: left_out(n, layer_names), wrote
        )
    click.echo(f"added {result.rows_added} rows to {result.table.name}")
    next_step("coopexport select")


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
    if len({item.variant for item in run.items}) > MAX_TABLES:
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
