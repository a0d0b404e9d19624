"""The command search: the encoding with the fewest bytes at each cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, find_work, split_settings
from coopexport.output import next_step, print_table, progress, wrote

if TYPE_CHECKING:
    from calibration.codecs.search import Trial
    from calibration.codecs.search_file import EncodingFile


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
