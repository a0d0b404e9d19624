"""The command select: the best network, cut and coding for each link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from exporter.project.settings import Project


@click.command()
@project_option
@target_option
@click.option("--device-slowdown", type=float, help="How much slower the device is than this machine (assumed).")
@click.option("--maximum-loss-points", type=float, help="Accuracy bound against the unpruned network.")
@click.option("--goodput-bps", type=float, help="One link with this goodput, instead of the project's links.")
def select(project_file: Path | None, target_name: str, goodput_bps: float | None, **overrides: Any) -> None:
    """Choose network, cut and coding for each link under the accuracy bound."""
    from benchmarks.selection.project_selection import PLAN_FILE, write_plan
    from exporter.project.settings import load_project

    project = load_project(project_file)
    given = {key: value for key, value in overrides.items() if value is not None}
    if goodput_bps is not None:
        given["goodput_bps"] = {"given": goodput_bps}
    result = run_selection(project, target_name, given)
    print_selection(result)
    write_plan(project, result)
    wrote(project.output / PLAN_FILE)
    next_step("coopexport report")


def run_selection(project: Project, target_name: str, overrides: dict[str, Any]) -> ProjectSelection:
    """Return the selection of a project with options from the command line."""
    from pydantic import ValidationError

    from benchmarks.selection.project_selection import select_for_project
    from exporter.project.settings import SelectSection
    from jetson.errors import CoopexportError

    try:
        settings = SelectSection.model_validate({**project.settings.select.model_dump(), **overrides})
    except ValidationError as error:
        problem = error.errors()[0]
        raise CoopexportError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    return select_for_project(project, settings, target_name)


def print_selection(result: ProjectSelection) -> None:
    """Print the choice and its baselines for each link, and the goodputs at which the choice changes."""
    from benchmarks.selection.project_selection import describe, result_rows

    settings = result.settings
    title = (
        f"Latency per network; device assumed {settings.device_slowdown:g}x slower than this machine; at most "
        f"{settings.maximum_loss_points:g} points below {100 * result.reference:.2f}"
    )
    columns = ["link", "", "candidate", "bytes", result.metric, "latency ms"]
    print_table(title, columns, list(result_rows(result)), left=3)
    rows = []
    for interval in result.selection.intervals:
        upto = "and more" if interval.upto_bps is None else f"{interval.upto_bps / 1e6:.3f}"
        rows.append((f"{interval.from_bps / 1e6:.3f}", upto, describe(result.selection.candidates[interval.candidate])))
    print_table("Best by goodput", ["from Mbit/s", "to", "candidate"], rows, left=3)
