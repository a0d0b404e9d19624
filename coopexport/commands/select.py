"""The command select: the best network, cut and coding for each link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import target_option
from coopexport.output import (
    next_step,
    print_table,
    project_option,
    wrote,
)

if TYPE_CHECKING:
    from benchmarks.selection.project_selection import ProjectSelection


@click.command()
@project_option
@target_option
@click.option("--device-slowdown", type=float, help="How much slower the device is than this machine (assumed).")
@click.option("--maximum-loss-points", type=float, help="Accuracy bound against the unpruned network.")
@click.option("--goodput-bps", type=float, help="One link with this goodput, instead of the project's links.")
def select(
    project_file: Path | None,
    target_name: str,
    device_slowdown: float | None,
    maximum_loss_points: float | None,
    goodput_bps: float | None,
) -> None:
    """Choose network, cut and coding for each link under the accuracy bound."""
    from benchmarks.selection.select_project import SelectRequest, select_project
    from exporter.project.settings import load_project

    link = None if goodput_bps is None else {"given": goodput_bps}
    request = SelectRequest(target_name, device_slowdown, maximum_loss_points, link)
    wrote(select_project(load_project(project_file), request, print_selection).path)
    next_step("coopexport report")


def print_selection(result: ProjectSelection) -> None:
    """Print the choice and its baselines for each link, and the goodputs at which the choice changes."""
    from benchmarks.selection.selector import describe

    settings = result.settings
    title = (
        f"Latency per network; device assumed {settings.device_slowdown:g}x slower than this machine; at most "
        f"{settings.maximum_loss_points:g} points below {100 * result.reference:.2f}"
    )
    columns = ["link", "", "candidate", "bytes", result.metric, "latency ms"]
    print_table(title, columns, result_rows(result), left=3)
    rows = []
    for interval in result.selection.intervals:
        upto = "and more" if interval.upto_bps is None else f"{interval.upto_bps / 1e6:.3f}"
        rows.append((f"{interval.from_bps / 1e6:.3f}", upto, describe(result.selection.candidates[interval.candidate])))
    print_table("Best by goodput", ["from Mbit/s", "to", "candidate"], rows, left=3)


def result_rows(result: ProjectSelection) -> list[tuple[str, str, str, str, str, str]]:
    """Return the printed table: link, what, candidate, bytes, metric, latency."""
    from benchmarks.selection.selector import describe
    from benchmarks.selection.terms import compared

    rows = []
    for choice in result.selection.links:
        for position, entry in enumerate(compared(result.selection, choice)):
            candidate = entry.candidate
            link = f"{choice.link} {choice.goodput_bps / 1e6:g} Mbit/s" if position == 0 else ""
            named = entry.name.startswith(("best", "chosen")) or candidate.family
            rows.append(
                (
                    link,
                    entry.name,
                    describe(candidate) if named else "",
                    f"{candidate.payload_bytes:.0f}",
                    f"{100 * candidate.metric:.2f}",
                    f"{entry.terms.total_ms:.3f}",
                )
            )
    return rows
