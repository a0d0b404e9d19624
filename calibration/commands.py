"""Commands of this room that measure: calibrate, search. `split` and `shrink` have modules of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.command_options import cut_options, find_work, range_options, split_settings
from exporter.command_line import MOST_TABLES, next_step, print_table, progress, wrote

if TYPE_CHECKING:
    from calibration.codecs.search import Trial
    from calibration.codecs.search_file import EncodingFile
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


@click.command()
@cut_options
@click.option(
    "--maximum-loss",
    "maximum_loss_points",
    type=click.FloatRange(min=0),
    help="Points of the metric that the recommended encoding may lose; default: split.maximum_loss_points.",
)
def search(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    **overrides: Any,
) -> None:
    """Try bits, clip ranges and codecs at each cut, and recommend the smallest within the bound of accuracy."""
    from calibration.splitting.context import open_context, open_data
    from calibration.splitting.search_variant import search_layer, settings_count
    from exporter.project.settings import load_project
    from exporter.variants.choice import naming

    project = load_project(project_file)
    settings = split_settings(project, overrides)
    work = find_work(project, variant_names, layer_names, all_layers or not layer_names, settings.at)
    data, count = open_data(project), settings_count()
    for number, item in enumerate(work, start=1):
        variant = item.graph.variant
        title = f"searching {variant} ({number} of {len(work)})"
        with naming(variant), progress(title, count * len(item.layers)) as on_progress:
            context = open_context(project, settings, item.graph, data)
            for index, layer in enumerate(item.layers):
                path, found = search_layer(
                    context,
                    layer,
                    lambda done, before=index * count: on_progress(before + done),  # type: ignore[misc]
                )
                print_front(found)
                wrote(path)
    next_step("coopexport split --layer NAME --recommended")


def clip_cells(clip: ClipRange) -> tuple[str, ...]:
    """Return how many ranges there are, and their outermost ends, as they stand in the table."""
    ends = (min(clip.low), max(clip.high), min(clip.minimum), max(clip.maximum))
    return (f"{len(clip.low)}", *(f"{value:.4g}" for value in ends))


def print_front(found: EncodingFile) -> None:
    """Print the front of one cut, the recommended encoding marked."""
    rows = [("->" if trial == found.recommended else "", *cells(trial)) for trial in found.front]
    if found.recommended is not None and found.recommended not in found.front:
        rows.append(("->", *cells(found.recommended)))
    columns = [
        "", "bits", "clip", "ranges", "codec", "wire bytes", "bits per element", f"points of {found.metric} lost",
        "encode µs", "decode µs",
    ]  # fmt: skip
    title = (
        f"{found.variant}, cut after {found.layer}: best of {found.trials} on {found.samples} calibration images "
        f"(-> recommended within {found.maximum_loss_points:g} points; entropy coder: {found.rans})"
    )
    print_table(title, columns, rows, left=5)


def cells(trial: Trial) -> tuple[str, ...]:
    """Return a trial as it stands in the table."""
    clip = trial.clip if trial.percentile is None else f"{trial.clip} {trial.percentile:g}"
    loss = f"{trial.loss_points:.2f} ± {trial.loss_error_points:.2f}"
    return (
        str(trial.bits), clip, trial.granularity, trial.codec, f"{trial.payload_bytes:.0f}",
        f"{trial.bits_per_element:.3f}", loss, f"{trial.encode_us:.0f}", f"{trial.decode_us:.0f}",
    )  # fmt: skip
