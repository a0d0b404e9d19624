"""The command calibrate: clip ranges of the features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, naming_options, range_options
from coopexport.output import MAX_TABLES, left_out, next_step, print_table, progress_bar, wrote

if TYPE_CHECKING:
    from calibration.splitting.calibrate_project import CalibratedVariant
    from exporter.encoding.specification import ClipRange

_COLUMNS = ["layer", "ranges", "low", "high", "minimum", "maximum"]


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
    from calibration.splitting.calibrate_project import CalibrateRequest, calibrate_project
    from exporter.project.settings import load_project

    project = load_project(project_file)
    request = CalibrateRequest(variant_names, layer_names, all_layers, **overrides)
    with naming_options(), progress_bar() as bar:
        result = calibrate_project(
            project, request, bar, bar.above(print_ranges), lambda count: left_out(count, layer_names)
        )
    count = len(result.variants)
    if count > MAX_TABLES:
        rows = [(item.variant, *row) for item in result.variants for row in range_rows(item)]
        print_table(f"Clip ranges of {count} variants", ["variant", *_COLUMNS], rows, left=2)
    wrote(*(item.path for item in result.variants if item.path is not None))
    next_step("coopexport split --layer NAME")


def print_ranges(found: CalibratedVariant) -> None:
    """Print the ranges of one of few variants."""
    if found.count <= MAX_TABLES:
        print_table(f"Clip ranges of {found.variant}", _COLUMNS, range_rows(found))


def range_rows(found: CalibratedVariant) -> list[tuple[str, ...]]:
    """Return the ranges of a variant as they stand in the table."""
    return [(item.layer, *clip_cells(item.clip)) for item in found.ranges]


def clip_cells(clip: ClipRange) -> tuple[str, ...]:
    """Return how many ranges there are, and their outermost ends, as they stand in the table."""
    ends = (min(clip.low), max(clip.high), min(clip.minimum), max(clip.maximum))
    return (f"{len(clip.low)}", *(f"{value:.4g}" for value in ends))
