"""The command variants: what there is, what it costs and what it is worth."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import next_step, print_table, progress, project_option, wrote

if TYPE_CHECKING:
    from benchmarks.report.variants_table import VariantRow
    from exporter.project.settings import Project


# Of the table where no terminal sets it: names of variants and their numbers take more than the usual line.
_WIDTH = 200


@click.command()
@project_option
@click.option("--sort", "by", type=click.Choice(["macs", "bytes", "metric"]), help="Order of the table.")
def variants(project_file: Path | None, by: str | None) -> None:
    """List all variants of the network with size, bytes and metric, and draw accuracy against both."""
    from benchmarks.report.variants_table import COLUMNS, cells, list_variants, sorted_rows
    from calibration.variants.registry import open_registry
    from exporter.project.settings import load_project
    from exporter.variants.layer_graphs import variants as names_of

    project = load_project(project_file)
    with progress("measuring variants", len(names_of(project))) as on_progress:
        registry = open_registry(project, on_progress)
    rows = list_variants(project, registry)
    original = rows[0].record
    title = (
        f"Variants: {original.metric.name} on {original.metric.samples} images with its 95 % interval; bytes at the "
        "cuts each was made for; images trained on since step 1"
    )
    shown = [cells(row, original.macs) for row in sorted_rows(rows, by)]
    print_table(title, list(COLUMNS), shown, left=4, width=_WIDTH)
    for reason in registry.outdated.values():
        click.echo(f"outdated: {reason}", err=True)
    if find_spec("matplotlib") is None:
        click.echo("note: no figures, they need matplotlib: pip install 'coopexport[report]'", err=True)
    else:
        wrote(*write_figures(project, rows))
    next_step("coopexport split --all, or coopexport select")


def write_figures(project: Project, rows: list[VariantRow]) -> list[Path]:
    """Write both figures and return their paths; raises OSError."""
    from benchmarks.report.variants_figures import Quantity, accuracy_figure
    from jetson.files.atomic_files import write_files

    bound = project.settings.select.maximum_loss_points
    quantities: tuple[Quantity, ...] = ("macs", "bytes")
    files = {
        f"accuracy_against_{name}.svg": accuracy_figure(rows, name, rows[0].record.metric.name, bound)
        for name in quantities
    }
    folder = project.output / "figures"
    write_files(str(folder), files)
    return [folder / name for name in files]
