"""The command variants: what there is, what it costs and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from coopexport.output import next_step, print_table, progress_bar, project_option, wrote

if TYPE_CHECKING:
    from benchmarks.report.list_variants import VariantsResult
    from benchmarks.report.variants_table import VariantRow


# Of the table where no terminal sets it: names of variants and their numbers take more than the usual line.
_WIDTH = 200
COLUMNS = (
    "variant", "parent", "step", "cut", "width", "parameters", "MACs", "less", "symbol bytes", "wire bytes", "metric",
    "95 %", "images",
)  # fmt: skip


@click.command()
@project_option
@click.option("--sort", "by", type=click.Choice(["macs", "bytes", "metric"]), help="Order of the table.")
def variants(project_file: Path | None, by: Literal["macs", "bytes", "metric"] | None) -> None:
    """List all variants of the network with size, bytes and metric, and draw accuracy against both."""
    from benchmarks.report.list_variants import VariantsRequest, list_variants
    from exporter.project.settings import load_project

    project = load_project(project_file)
    with progress_bar() as on_progress:
        result = list_variants(project, VariantsRequest(by), on_progress, print_variants)
    if result.figures:
        wrote(*result.figures)
    else:
        click.echo("note: no figures, they need matplotlib: pip install 'coopexport[report]'", err=True)
    next_step("coopexport split --all, or coopexport select")


def print_variants(result: VariantsResult) -> None:
    """Print the table of all variants, and which are outdated."""
    original = result.original
    title = (
        f"Variants: {original.metric.name} on {original.metric.samples} images with its 95 % interval; bytes at the "
        "cuts each was made for; images trained on since step 1"
    )
    print_table(title, list(COLUMNS), [cells(row, original.macs) for row in result.rows], left=4, width=_WIDTH)
    for reason in result.outdated.values():
        click.echo(f"outdated: {reason}", err=True)


def cells(row: VariantRow, original_macs: int) -> tuple[str, ...]:
    """Return a row as it is printed, one cell for each of `COLUMNS`: metrics in hundredths, images since step 1."""
    record, features = row.record, row.own_features
    wire = ["–" if item.wire_bytes is None else f"{item.wire_bytes:.0f}" for item in features]
    interval = "" if record.interval is None else "{:.2f}–{:.2f}".format(*(100 * end for end in record.interval))
    images = record.training.get("images_since_step1")
    return (
        record.variant + (" (outdated)" if row.outdated else ""),
        record.parent or "",
        record.step,
        ", ".join(item.layer for item in features),
        str(record.method.get("width", "")),
        f"{record.parameters:,}",
        f"{record.macs:,}",
        f"{original_macs / record.macs:.2f}x" if record.macs else "",
        ", ".join(str(item.symbol_bytes) for item in features),
        "" if set(wire) == {"–"} else ", ".join(wire),
        f"{100 * record.metric.value:.2f}",
        interval,
        f"{images:,}" if isinstance(images, int) else "",
    )
