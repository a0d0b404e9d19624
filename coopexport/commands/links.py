"""The command `links`: links that have been published, and those of a project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import project_here
from coopexport.output import print_table, project_option

if TYPE_CHECKING:
    from benchmarks.links.link import Link


@click.command()
@project_option
def links(project_file: Path | None) -> None:
    """List the project's links, where there is one, and the presets: goodput, round trip, where they come from."""
    from benchmarks.links.presets import PRESETS
    from benchmarks.links.project_links import project_links

    project = project_here(project_file)
    if project is not None:
        _print(f"Links of {project.settings.model.name}", project_links(project))
    _print("Presets", PRESETS)
    click.echo('use one: [links.NAME] preset = "LTE"; measure your own: coopexport probe --link user@host')


def _print(title: str, found: Sequence[Link]) -> None:
    with_loss = any(link.loss is not None for link in found)
    rows = []
    for link in found:
        loss = [("" if link.loss is None else f"{100 * link.loss:g} %")] if with_loss else []
        trip = f"{link.round_trip_ms:.3g}" if link.round_trip_ms else ""
        rows.append([link.name, link.source, f"{link.goodput_bps / 1e6:.4g}", trip, *loss])
    columns = ["link", "source", "Mbit/s", "round trip ms", *(["loss"] if with_loss else [])]
    print_table(title, columns, rows, left=2)
