"""The command `coopexport precision`: float16 and int8 forms of what was split, and which layers suffer from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from coopexport.output import (
    left_out,
    next_step,
    print_records,
    print_table,
    progress_bar,
    project_option,
    variant_option,
    wrote,
)

if TYPE_CHECKING:
    from calibration.precision.convert_project import ConvertResult, NetworkSensitivity
    from exporter.bundles.precision_file import Precision


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Layer that was split at, e.g. conv4_1; repeatable.")
@click.option("--all", "all_layers", is_flag=True, help="Every layer that was split at, and the whole network.")
@click.option("--whole", "with_whole", is_flag=True, help="The network that is not cut.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp16", "int8"]),
    multiple=True,
    default=["fp16", "int8"],
    show_default=True,
    help="What to convert to; repeatable.",
)
@click.option(
    "--ranges",
    "method",
    type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
    default="entropy",
    show_default=True,
    help="How ranges of int8 activations are chosen.",
)
@click.option("--percentile", type=float, default=99.99, show_default=True, help="What --ranges percentile keeps.")
@click.option(
    "--maximum-loss",
    "maximum_loss_points",
    type=click.FloatRange(min=0),
    help="Points of the metric that may be lost against float32; default: 0.1 for fp16, 1 for int8.",
)
@click.option("--keep", multiple=True, help="Layer that stays in float32; repeatable.")
@click.option(
    "--kept-in",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Beside int8: in what layers run that stay out of it.",
)
@click.option("--not-mixed", is_flag=True, help="Refuse rather than let sensitive layers stay in float32.")
@click.option("--sensitivity", "only_sensitivity", is_flag=True, help="Only measure what each layer costs alone.")
@click.option(
    "--images", "image_count", type=click.IntRange(min=2), help="Calibration images for --sensitivity; default: all."
)
def precision(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    with_whole: bool,
    precisions: tuple[Precision, ...],
    method: str,
    percentile: float,
    maximum_loss_points: float | None,
    keep: tuple[str, ...],
    kept_in: Literal["fp32", "fp16"],
    not_mixed: bool,
    only_sensitivity: bool,
    image_count: int | None,
) -> None:
    """Write heads and tails in float16 or int8, evaluated image by image against float32."""
    from calibration.precision.convert_project import (
        ConvertRequest,
        check_networks,
        convert_project,
        measure_sensitivity,
    )
    from calibration.precision.int8_ranges import RangeSettings
    from exporter.project.settings import load_project

    check_networks(layer_names, all_layers, with_whole)
    project = load_project(project_file)
    request = ConvertRequest(
        variant_names,
        layer_names,
        all_layers,
        with_whole,
        precisions,
        RangeSettings(method, percentile),  # type: ignore[arg-type]  # click has checked it
        maximum_loss_points,
        keep,
        not not_mixed,
        kept_in,
    )
    with progress_bar() as bar:
        if only_sensitivity:
            measure_sensitivity(
                project, request, image_count, bar, bar.above(print_sensitivity),
                lambda count: left_out(count, layer_names),
            )  # fmt: skip
        else:
            result = convert_project(project, request, bar, lambda count: left_out(count, layer_names))
    if only_sensitivity:
        next_step("coopexport precision --keep LAYER, or let it choose by itself")
    else:
        print_converted(result)


def print_converted(result: ConvertResult) -> None:
    """Print what was written; raises CoopexportError when networks were refused, the others named before."""
    from jetson.errors import ParityError

    if result.records:
        print_records(result.records)
    wrote(*result.paths)
    for reason in result.refused[:-1]:
        click.echo(f"refused: {reason}", err=True)
    if result.refused:
        raise ParityError(result.refused[-1])
    next_step("coopexport build --precision NAME")


def print_sensitivity(found: NetworkSensitivity) -> None:
    """Print what each layer of a network costs when it alone is converted, the worst first."""
    title = f"{found.precision} of {found.variant}, {found.layer}: each layer alone, {found.samples} images"
    rows = []
    for item in found.layers:
        loss = "" if item.loss_points is None else f"{item.loss_points:.2f}"
        changed = "" if item.changed_answers is None else str(item.changed_answers)
        error = "not finite" if item.output_error is None else f"{100 * item.output_error:.3g} %"
        rows.append((item.layer, item.role, item.unfit or "", error, loss, changed))
    columns = ["layer", "part", "stays float32", "error of the outputs", "points lost", "answers changed"]
    print_table(title, columns, rows, left=3)
