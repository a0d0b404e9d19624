"""The command bottleneck: a small trained encoder at a cut, searched for the fewest bytes within a bound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from coopexport.commands.options import naming_options
from coopexport.commands.prune import print_warning
from coopexport.output import next_step, progress_bar, project_option

if TYPE_CHECKING:
    from calibration.variants.bottleneck_project import Bottlenecked, TriedBottleneck
    from exporter.variants.record import VariantRecord

_STRIDES: dict[str, Literal[1, 2, 4]] = {"1": 1, "2": 2, "4": 4}
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@project_option
@click.option("--layer", "layer_names", multiple=True, help="Put one behind this layer, e.g. pool1; repeatable.")
@click.option("--all", "all_layers", is_flag=True, help="At the project's candidates, or every clean cut.")
@click.option("--variant", default="original", show_default=True, help="The network that gets them.")
@click.option("--replace", is_flag=True, help="Delete bottlenecks of other settings or data at these layers.")
@click.option(
    "--max-drop", "maximum_loss_points", type=click.FloatRange(min=0), help="Points of the metric that one may cost."
)
@click.option("--trainings", type=click.IntRange(min=1), help="Most trainings of a search.")
@click.option("--stride", type=click.Choice(tuple(_STRIDES)), help="In height and width, to begin with.")
@click.option("--channels", type=click.IntRange(min=1), help="That cross, to begin with.")
@click.option("--bits", type=click.IntRange(1, 8), help="Of a symbol, to begin with.")
@click.option("--rate-weight", type=_POSITIVE, help="Loss per bit of a sample, where bits are trained for first.")
@click.option("--tail", type=click.Choice(["fine-tuned", "frozen"]), help="Whether the edge's side is trained, too.")
@click.option("--first-epochs", type=_POSITIVE, help="The first training.")
@click.option("--epochs", type=_POSITIVE, help="Each training after the first.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
@click.option("--seed", type=click.IntRange(min=0), help="Of weights, order and augmentation.")
def bottleneck(
    project_file: Path | None,
    layer_names: tuple[str, ...],
    all_layers: bool,
    variant: str,
    replace: bool,
    stride: str | None,
    **overrides: Any,
) -> None:
    """Train a small encoder at a cut, so that few bytes cross early in the network."""
    from calibration.variants.bottleneck_project import BottleneckRequest, bottleneck_project
    from exporter.project.settings import load_project

    project = load_project(project_file)
    request = BottleneckRequest(
        layer_names, all_layers, variant, replace, stride=_STRIDES[stride] if stride else None, **overrides
    )
    with naming_options(), progress_bar() as bar:
        result = bottleneck_project(project, request, bar, bar.above(print_bottlenecked), bar.above(print_warning))
    if result.variants:
        next_step("coopexport split --all")


def print_bottlenecked(found: Bottlenecked) -> None:
    """Print what has just been done, or what was left out and why."""
    from calibration.variants.bottleneck_project import TriedBottleneck
    from calibration.variants.variant_maker import LeftOut

    if isinstance(found, LeftOut):
        click.echo(f"left out {found.name}: {found.reason}", err=True)
    elif isinstance(found, TriedBottleneck):
        click.echo(trial_line(found))
    else:
        click.echo(bottleneck_line(found))


def trial_line(found: TriedBottleneck) -> str:
    """Return one training of a search in a line."""
    rate = f", rate weight {found.rate_weight:g}" if found.rate_weight else ""
    verdict = "" if found.holds else ", which is too much"
    return (
        f"{found.layer}, training {found.number}: {found.channels} channels, stride {found.stride}, {found.bits} bits"
        f"{rate}: about {found.estimated_bytes:.1f} bytes, {found.loss_points:.2f} points lost in validation{verdict}"
    )


def bottleneck_line(record: VariantRecord) -> str:
    """Return a variant with a bottleneck in a line: size of the encoder, bytes, metric."""
    method = record.method
    return (
        f"variant {record.variant}: encoder of {method['encoder_parameters']:,} parameters, about "
        f"{method['estimated_bytes']:.1f} bytes, {record.metric.name} {100 * record.metric.value:.2f} on "
        f"{record.metric.samples} images ({record.metric.loss_points:.2f} points below the original)"
    )
