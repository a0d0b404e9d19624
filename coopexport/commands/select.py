"""The command select: the best network, cut and coding for each link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from coopexport.commands.options import naming_options, target_option
from coopexport.output import (
    next_step,
    print_table,
    project_option,
    wrote,
)

if TYPE_CHECKING:
    from benchmarks.selection.project_selection import ProjectSelection
    from benchmarks.selection.selector import Candidate, Envelope, Selection
    from exporter.project.settings import Precision


_Pairs = tuple[tuple[str, str], ...]


def _pairs(sign: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], _Pairs]:
    """Return what takes words like busy=2.5 apart at a sign, and refuses others."""

    def taken_apart(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> _Pairs:
        found = []
        for value in values:
            first, _sign, second = value.partition(sign)
            if not first or not second:
                raise click.BadParameter(f"{value!r} is not {parameter.metavar}")
            found.append((first, second))
        return tuple(found)

    return taken_apart


@click.command()
@project_option
@target_option
@click.option("--device-target", help="Target whose rows of the latency table are the device's times.")
@click.option("--device-slowdown", type=float, help="How much slower the device is than this machine (assumed).")
@click.option("--maximum-loss-points", type=float, help="Accuracy bound against the unpruned network.")
@click.option("--maximum-latency-ms", type=float, help="Choose the most accurate within this, and not the fastest.")
@click.option("--goodput-bps", type=float, help="One link with this goodput, instead of the project's links.")
@click.option("--round-trip-ms", type=float, help="Round trip of the links.")
@click.option(
    "--protocol",
    type=click.Choice(["framed", "http", "grpc", "grpc-stream", "none"]),
    help="What carries messages: its bytes count; none: the payload alone.",
)
@click.option("--percentile", "latency_percentile", type=float, help="Of latency over select.goodput_samples_bps.")
@click.option("--maximum-device-memory-bytes", type=float, help="Bound on peak memory on the device, where measured.")
@click.option("--maximum-device-mj", type=float, help="Bound on the energy of one run on the device, where measured.")
@click.option("--batch", type=int, help="Only what computes so many images at once; 1 without it.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Only these; repeatable.",
)
@click.option(
    "--cut",
    "cuts",
    multiple=True,
    metavar="VARIANT:LAYER",
    callback=_pairs(":"),
    help="Where variants may be cut, both as patterns; input and output are layers, too; repeatable.",
)
@click.option("--no-upload", is_flag=True, help="The input may not leave the device.")
@click.option(
    "--device-load",
    "device_loads",
    multiple=True,
    metavar="NAME=FACTOR",
    callback=_pairs("="),
    help="A load of the device, and how many times slower it is then; repeatable.",
)
@click.option(
    "--edge-load",
    "edge_loads",
    multiple=True,
    metavar="NAME=FACTOR",
    callback=_pairs("="),
    help="The same for the edge; repeatable.",
)
@click.option("--hysteresis-percent", type=float, help="By how much another choice has to be better to be taken.")
def select(
    project_file: Path | None,
    target_name: str,
    goodput_bps: float | None,
    precisions: tuple[Precision, ...],
    cuts: _Pairs,
    no_upload: bool,
    device_loads: _Pairs,
    edge_loads: _Pairs,
    **same: Any,
) -> None:
    """Choose network, cut and coding for each link: the fastest under the accuracy bound, or the most accurate."""
    from benchmarks.selection.select_project import SelectRequest, select_project
    from exporter.project.settings import load_project

    by_variant: dict[str, list[str]] = {}
    for variant, layer in cuts:
        by_variant.setdefault(variant, []).append(layer)
    request = SelectRequest(
        target_name,
        goodput_bps=None if goodput_bps is None else {"given": goodput_bps},
        precisions=precisions or None,
        cuts=by_variant or None,
        upload=False if no_upload else None,
        # The request turns words into numbers, or refuses them.
        device_loads=cast("dict[str, float]", dict(device_loads)) or None,
        edge_loads=cast("dict[str, float]", dict(edge_loads)) or None,
        **same,
    )
    with naming_options():
        result = select_project(load_project(project_file), request, print_selection)
    wrote(result.path)
    next_step("coopexport report")


def print_selection(result: ProjectSelection) -> None:
    """Print the choice and its baselines for each link, and the goodputs at which the choice changes."""
    from benchmarks.selection.partition_policy import comparison

    columns = ["link", "", "candidate", "bytes", result.metric, "latency ms"]
    print_table(_title(result), columns, result_rows(result), left=3)
    for choice in result.selection.links:
        if choice.over_ms > 0:
            click.echo(f"{choice.link}: none keeps the latency bound; the fastest is {choice.over_ms:.3f} ms over it")
    for envelope in result.selection.envelopes:
        rows = interval_rows(envelope, result.selection.candidates)
        print_table(_heading(envelope, result.selection), ["from Mbit/s", "to", "candidate"], rows, left=3)
    for line in [*times_of_chosen(result.selection), *costs_of_chosen(result)]:
        click.echo(line)
    if len({row.run for row in result.rows}) > 1:
        click.echo(f"sittings: {comparison(result.rows)}")


def _title(result: ProjectSelection) -> str:
    settings = result.settings
    device = f"device assumed {settings.device_slowdown:g}x slower than this machine"
    if settings.device_target is not None:
        parts = result.sources.compared_parts
        how = f"({parts} parts measured on both)" if parts else "(assumed)"
        device = (
            f"device as measured on {settings.device_target}, the rest {settings.device_slowdown:.3g}x slower {how}"
        )
    bound = f"at most {settings.maximum_loss_points:g} points below {100 * result.reference:.2f}"
    if settings.maximum_latency_ms is not None:
        return f"Most accurate within {settings.maximum_latency_ms:g} ms; {device}; {bound}"
    return f"Latency per network; {device}; {bound}"


def _heading(envelope: Envelope, selection: Selection) -> str:
    """Return what distinguishes an envelope from the plan's others."""
    words = ["Best by goodput"]
    if len({(one.device_load, one.edge_load) for one in selection.envelopes}) > 1:
        words.append(f"device {envelope.device_load}, edge {envelope.edge_load}")
    if envelope.round_trip_ms:
        words.append(f"round trip {envelope.round_trip_ms:g} ms")
    if envelope.bound_from_bps is None:
        words.append("the latency bound is never kept")
    elif envelope.bound_from_bps > 0:
        words.append(f"the latency bound is kept from {envelope.bound_from_bps / 1e6:.3f} Mbit/s on")
    return "; ".join(words)


def interval_rows(envelope: Envelope, candidates: Sequence[Candidate]) -> list[tuple[str, str, str]]:
    """Return the printed intervals: from and to, in Mbit/s, and the candidate."""
    from benchmarks.selection.selector import describe

    rows = []
    for interval in envelope.intervals:
        upto = "and more" if interval.upto_bps is None else f"{interval.upto_bps / 1e6:.3f}"
        rows.append((f"{interval.from_bps / 1e6:.3f}", upto, describe(candidates[interval.candidate])))
    return rows


def times_of_chosen(selection: Selection) -> list[str]:
    """Return where the times of each chosen candidate come from."""
    from benchmarks.selection.selector import describe

    chosen = dict.fromkeys(choice.candidate for choice in selection.links)
    return [f"times of {describe(one)}: {_origins(one)}" for one in (selection.candidates[index] for index in chosen)]


def costs_of_chosen(result: ProjectSelection) -> list[str]:
    """Return what each chosen candidate takes of the device's memory and energy where these have a bound."""
    from benchmarks.selection.project_selection import costs_of
    from benchmarks.selection.selector import describe

    chosen = dict.fromkeys(choice.candidate for choice in result.selection.links)
    found = [result.selection.candidates[index] for index in chosen]
    return [f"{describe(one)} {costs}" for one in found if (costs := costs_of(result, one))]


def _origins(candidate: Candidate) -> str:
    note = f" ({candidate.note})" if candidate.note else ""
    sides = (("device", candidate.device_origin), ("edge", candidate.edge_origin))
    return ", ".join(f"{side} {origin}" for side, origin in sides if origin) + note


def result_rows(result: ProjectSelection) -> list[tuple[str, ...]]:
    """Return the printed table: link, what, candidate, bytes that cross, metric, latency."""
    from benchmarks.selection.selector import describe
    from benchmarks.selection.terms import compared

    rows: list[tuple[str, ...]] = []
    for choice in result.selection.links:
        for position, entry in enumerate(compared(result.selection, choice)):
            candidate = entry.candidate
            link = f"{choice.link} {choice.goodput_bps / 1e6:g} Mbit/s" if position == 0 else ""
            named = entry.name.startswith(("best", "chosen")) or candidate.family or candidate.form
            rows.append(
                (
                    link,
                    entry.name,
                    describe(candidate) if named else "",
                    f"{candidate.crossing_bytes:.0f}",
                    f"{100 * candidate.metric:.2f}",
                    f"{entry.terms.total_ms:.3f}",
                )
            )
    return rows
