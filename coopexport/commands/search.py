"""The command search: the encoding with the fewest bytes at each cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, naming_options
from coopexport.output import left_out, next_step, print_table, progress_bar, wrote

if TYPE_CHECKING:
    from calibration.codecs.search import Trial
    from calibration.codecs.search_file import EncodingFile
    from calibration.splitting.search_project import SearchedCut


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
    from calibration.splitting.search_project import SearchRequest, search_project
    from exporter.project.settings import load_project

    project = load_project(project_file)
    request = SearchRequest(variant_names, layer_names, all_layers, **overrides)
    with naming_options(), progress_bar() as bar:
        search_project(project, request, bar, bar.above(print_cut), lambda count: left_out(count, layer_names))
    next_step("coopexport split --layer NAME --recommended")


def print_cut(cut: SearchedCut) -> None:
    """Print what was found at one cut, and where it was written."""
    print_front(cut.found)
    wrote(cut.path)


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
