"""The command bench: latencies of heads, codecs and tails, on this machine or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from coopexport.commands.bench_printing import (
    form_of,
    part_name,
    print_bench_order,
    print_conditions,
    print_needs,
    print_without_form,
)
from coopexport.commands.build_printing import print_event
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
    from benchmarks.latency.run import LatencyRun, RunItem
    from benchmarks.latency.statistics import Summary
    from exporter.project.settings import Precision

    Summaries = Sequence[tuple[RunItem, Summary | None]]


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Bundle to measure, e.g. conv4_1; default: all.")
@target_option
@click.option("--rounds", type=click.IntRange(min=8), help="How often each part is measured.")
@click.option("--warm-up", type=click.IntRange(min=1), help="Least number of rounds before, until all is steady.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of the networks, as coopexport precision made them; repeatable.",
)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(min=1), help="Images at once; repeatable.")
@click.option(
    "--energy/--no-energy", default=None, help="Whether to measure energy; default: on boards that show their power."
)
@click.option("--device", help="Measure on this device, user@host or user@host:port, over ssh.")
@click.option(
    "--order",
    "order_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what a device without ssh needs to build and measure, a .zip file, instead of measuring.",
)
@click.option(
    "--result",
    "run_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take in the run that the device made of the order.",
)
def bench(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    target_name: str,
    rounds: int | None,
    warm_up: int | None,
    precisions: tuple[Precision, ...],
    batches: tuple[int, ...],
    energy: bool | None,
    device: str | None,
    order_file: Path | None,
    run_file: Path | None,
) -> None:
    """Measure heads, codecs and tails into the latency table.

    In float32, one image at a time, unless [bench], --precision or --batch say otherwise. On this machine, or on the
    device that the target is: over ssh with --device, by hand with --order and --result.
    """
    from benchmarks.latency.bench_project import BenchRequest, bench_project
    from exporter.project.settings import load_project
    from jetson.errors import InputError

    if sum(item is not None for item in (device, order_file, run_file)) > 1:
        raise InputError("give one of --device, --order and --result")
    request = BenchRequest(
        variant_names, layer_names, target_name, rounds, warm_up, precisions or None, batches or None, energy
    )
    project = load_project(project_file)

    def say_left_out(count: int) -> None:
        left_out(count, layer_names)

    with progress_bar() as bar:
        if order_file is not None:
            from benchmarks.latency.devices.bench_device import write_bench_order

            print_bench_order(write_bench_order(project, request, order_file, bar, say_left_out, print_without_form))
            return
        if device is not None:
            from benchmarks.latency.devices.bench_device import bench_over_ssh

            show = bar.above(print_device_run)
            result = bench_over_ssh(
                project, request, device, bar, bar.above(print_event), show, say_left_out, wrote, print_without_form
            )
        elif run_file is not None:
            from benchmarks.latency.devices.bench_device import import_bench_run

            given = click.get_current_context().get_parameter_source("target_name") is not ParameterSource.DEFAULT
            named = target_name if given else None
            result = import_bench_run(project, run_file, named, print_device_run, wrote)
        else:
            result = bench_project(project, request, bar, print_run, say_left_out, wrote, print_without_form)
    click.echo(f"added {result.rows_added} rows to {result.table.name}")
    next_step("coopexport select")


def print_device_run(run: LatencyRun) -> None:
    """Print a run on a device: its rows, then what the device was like."""
    print_run(run)
    print_conditions(run)


def print_run(run: LatencyRun) -> None:
    """Print the median of every part of a run with its interval, and mark those that are in doubt, with the reasons."""
    found = summaries(run)
    marks = any(summary is not None and summary.flags for _, summary in found)
    rounds = f"{run.rounds} {'interleaved ' if run.interleaved else ''}rounds"
    title = f"Latency on {run.host['processor']}, {run.threads} thread, {rounds}"
    many = len({item.variant for item in run.items}) > MAX_TABLES
    columns, rows, left = (_BY_CUT, rows_by_cut(found), 2) if many else (_BY_PART, rows_by_part(found), 3)
    if not marks:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_table(f"{title}: medians in ms" if many else title, list(columns), rows, left=left)
    if many:
        for item in run.items:
            if item.failure is not None:
                click.echo(f"failed: {item.variant} {item.layer} {part_name(item)}: {item.failure}", err=True)
    for line in reasons(found):
        click.echo(line)
    if any(item.batch != 1 for item in run.items):
        click.echo("times of a batch are those of all its images together")
    click.echo(reference_line(run))
    print_needs(run)


# What many variants show of each cut; the others hardly differ between them, and are in the run's file.
_PARTS = ("head", "encode", "decode", "tail", "whole")
_BY_CUT: tuple[str, ...] = ("variant", "cut", *_PARTS, "")
_BY_PART: tuple[str, ...] = ("variant", "cut", "part", "median ms", "95 % interval", "p90 at most", "cv", "")
_MARK = "!"
# More reasons than that are told by kind, each with one part as its example.
_MOST_REASONS = 12


def rows_by_part(found: Summaries) -> list[tuple[str, ...]]:
    """Return `_BY_PART` of every part; one that failed has its reason in the place of the interval."""
    rows: list[tuple[str, ...]] = []
    for item, summary in found:
        where = (item.variant, item.layer, part_name(item))
        if summary is None:
            rows.append((*where, "failed", item.failure or "", "", "", ""))
            continue
        interval = ""
        if summary.p50_low_ms is not None and summary.p50_high_ms is not None:
            interval = f"{summary.p50_low_ms:.4f} to {summary.p50_high_ms:.4f}"
        p90 = "" if summary.p90_ms is None else f"{summary.p90_ms:.4f}"
        mark = _MARK if summary.flags else ""
        rows.append((*where, f"{summary.p50_ms:.4f}", interval, p90, f"{100 * summary.cv:.0f} %", mark))
    return rows


def rows_by_cut(found: Summaries) -> list[tuple[str, ...]]:
    """Return variant, cut, the medians of `_PARTS` in milliseconds, nothing for parts that a cut has not, and the mark.

    The mark is for any part of the cut, also one that is not shown.
    """
    cuts: dict[tuple[str, str], dict[str, str]] = {}
    marked = set()
    for item, summary in found:
        key = item.variant, " ".join([item.layer, *form_of(item)])
        cells = cuts.setdefault(key, {})
        if item.layer != "whole" or item.part == "whole":  # encode and decode of images: the same for all variants
            cells[item.part] = "failed" if summary is None else f"{summary.p50_ms:.4f}"
        if summary is not None and summary.flags:
            marked.add(key)
    return [
        (*key, *(cells.get(part, "") for part in _PARTS), _MARK if key in marked else "")
        for key, cells in cuts.items()
        if cells or key in marked
    ]


def reasons(found: Summaries) -> list[str]:
    """Return in lines why numbers are marked: each reason with its part, or, of many, each kind with an example."""
    told = [
        (flag.kind, f"{item.variant} {item.layer} {part_name(item)}: {flag.text}")
        for item, summary in found
        if summary is not None
        for flag in summary.flags
    ]
    if len(told) <= _MOST_REASONS:
        return [f"{_MARK} {text}" for _, text in told]
    by_kind: dict[str, list[str]] = {}
    for kind, text in told:
        by_kind.setdefault(kind, []).append(text)
    return [
        f"{_MARK} {kind}: {len(texts)} part{'' if len(texts) == 1 else 's'}, such as {texts[0]}"
        for kind, texts in by_kind.items()
    ]


def reference_line(run: LatencyRun) -> str:
    """Return what the reference network took in the run, or why it did not run."""
    from benchmarks.latency.summaries import summarise_item

    if run.reference is None:
        return "reference network: none in this run"
    summary = summarise_item(run, run.reference)
    if summary is None:
        return f"reference network: not measured ({run.reference.failure})"
    doubts = "".join(f"; {_MARK} {flag.text}" for flag in summary.flags)
    return f"reference network: {summary.p50_ms:.4f} ms{doubts}"


def summaries(run: LatencyRun) -> Summaries:
    """Return the items of a run with their summaries, None for those that failed."""
    from benchmarks.latency.summaries import summarise_item

    return [(item, summarise_item(run, item)) for item in run.items]
