"""The command calibrate: clip ranges of the features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, find_work, range_options, split_settings
from coopexport.output import MOST_TABLES, next_step, print_table, progress, wrote

if TYPE_CHECKING:
    from exporter.encoding.specification import ClipRange


@click.command()
@cut_options
@range_options
def calibrate(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    **overrides: Any,
) -> None:
    """Find the clip range of the feature at each cut, from calibration data."""
    from calibration.ranges.calibration_file import FILE_NAME
    from calibration.splitting.context import boundaries, open_context, open_data
    from exporter.layers.names import display_name
    from exporter.project.settings import load_project
    from exporter.variants.choice import naming

    project = load_project(project_file)
    settings = split_settings(project, overrides)
    work = find_work(project, variant_names, layer_names, all_layers or not layer_names, settings.at)
    data = open_data(project)
    columns = ["layer", "ranges", "low", "high", "minimum", "maximum"]
    every: list[tuple[str, ...]] = []
    written: list[Path] = []
    for number, item in enumerate(work, start=1):
        graph, variant = item.graph, item.graph.variant
        title = f"calibrating {variant} ({number} of {len(work)})"
        with naming(variant):
            context = open_context(project, settings, graph, data)
            with progress(title, len(context.calibration_inputs)) as on_progress:
                found = boundaries(context, item.layers, on_progress)
        rows = []
        for layer in item.layers:
            clips = [boundary.encoding.clip for boundary in found[layer.name]]
            rows += [(display_name(graph.layers, layer), *clip_cells(clip)) for clip in clips if clip is not None]
        every += [(variant, *row) for row in rows]
        written += [graph.folder / FILE_NAME] if rows else []
        if len(work) <= MOST_TABLES:
            print_table(f"Clip ranges of {variant}", columns, rows)
    if len(work) > MOST_TABLES:
        print_table(f"Clip ranges of {len(work)} variants", ["variant", *columns], every, left=2)
    wrote(*written)
    next_step("coopexport split --layer NAME")


def clip_cells(clip: ClipRange) -> tuple[str, ...]:
    """Return how many ranges there are, and their outermost ends, as they stand in the table."""
    ends = (min(clip.low), max(clip.high), min(clip.minimum), max(clip.maximum))
    return (f"{len(clip.low)}", *(f"{value:.4g}" for value in ends))
