"""The command prune: smaller variants of the network, by pruning and training it in two steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import naming_options
from coopexport.output import next_step, progress_bar, project_option

if TYPE_CHECKING:
    from calibration.variants.prune_project import Pruned, PruneResult
    from exporter.pruning.step_one import Round
    from exporter.variants.record import VariantRecord

_CRITERIA = ("taylor", "taylor-absolute", "taylor-before-norm", "l1-norm", "geometric-median", "random")
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.group()
def prune() -> None:
    """Make smaller variants of the network by pruning and training it."""


@prune.command("two-step")
@project_option
@click.option(
    "--layer", "layer_names", multiple=True,
    help="Candidate for step 2, e.g. conv4_1; repeatable; default: the project's, or every clean cut.",
)  # fmt: skip
@click.option("--step", type=click.Choice(["1", "2"]), default="2", show_default=True, help="The last step to take.")
@click.option("--series", help="Put before the variants' names, so that several prunings stand beside each other.")
@click.option("--replace", is_flag=True, help="Delete variants that another pruning has left.")
@click.option("--without-controls", is_flag=True, help="Do not train step 1 on for a comparison of equal training.")
@click.option("--criterion", type=click.Choice(_CRITERIA), help="How important a channel is.")
@click.option(
    "--normalisation", type=click.Choice(["l2", "rank"]),
    help="How layers are compared: by scores over their L2 norm, or the same share of every layer goes.",
)  # fmt: skip
@click.option("--score-images", type=click.IntRange(min=1), help="Training images that a score is taken on.")
@click.option("--removed-share", type=_POSITIVE, help="Share of all filters that goes in one round of step 1.")
@click.option("--epochs", type=_POSITIVE, help="Training after each round of step 1; may be a fraction.")
@click.option("--final-epochs", type=click.FloatRange(min=0), help="Training at the end of step 1.")
@click.option(
    "--maximum-loss", "maximum_loss_points", type=click.FloatRange(min=0),
    help="Step 1 stops before it loses more points of the validation metric.",
)  # fmt: skip
@click.option("--least-left", type=_POSITIVE, help="Step 1 stops when this share of all filters is left.")
@click.option(
    "--macs-reduction", type=click.FloatRange(min=1, min_open=True), help="Step 1 stops at so many times fewer MACs."
)
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds in which step 1 comes to --macs-reduction.")
@click.option("--widths", type=click.IntRange(min=1), help="Most widths that step 2 takes at a layer.")
@click.option("--step-two-epochs", type=_POSITIVE, help="Training after each width of step 2.")
@click.option("--step-two-learning-rate", type=_POSITIVE, help="Of step 2, where it is another one.")
@click.option("--learning-rate", type=_POSITIVE, help="Of all training.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
@click.option("--seed", type=click.IntRange(min=0), help="Of order, augmentation and random choices.")
@click.option(
    "--distil",
    "distillation_weight",
    type=click.FloatRange(0, 1),
    help="Learn from the unpruned network, with this weight.",
)
def two_step(
    project_file: Path | None,
    layer_names: tuple[str, ...],
    step: str,
    series: str | None,
    replace: bool,
    without_controls: bool,
    **overrides: Any,
) -> None:
    """Prune the whole network (step 1), then, per candidate layer, what crosses the link (step 2)."""
    from calibration.variants.prune_project import PruneRequest, prune_project
    from exporter.project.settings import load_project

    project = load_project(project_file)
    request = PruneRequest(
        layer_names,
        1 if step == "1" else 2,
        series,
        controls=not without_controls,
        replace=replace,
        **overrides,
    )
    with naming_options(), progress_bar() as bar:
        result = prune_project(project, request, bar, bar.above(print_pruned), bar.above(print_warning))
    click.echo(f"step 1: {what_step_one_did(result)}")
    next_step("coopexport variants, then coopexport split --all")


def print_pruned(found: Pruned) -> None:
    """Print what has just been done, or what was left out and why."""
    from calibration.variants.variant_maker import LeftOut
    from exporter.variants.record import VariantRecord

    if isinstance(found, LeftOut):
        click.echo(f"left out {found.name}: {found.reason}", err=True)
    elif isinstance(found, VariantRecord):
        click.echo(variant_line(found))
    else:
        click.echo(round_line(found))


def print_warning(text: str) -> None:
    """Print what does not stop the command, and what it does about it."""
    click.echo(f"warning: {text}", err=True)


def round_line(found: Round) -> str:
    """Return one round of step 1 in a line."""
    reasons = {
        "accuracy": ", which is too little: the round before counts",
        "MACs": ", few enough MACs",
        "filters": ", few enough filters",
        "fine-tuned": " after fine-tuning",
    }
    return (
        f"step 1, round {found.number}: {found.filters} filters, {found.macs:,} MACs, validation score "
        f"{100 * found.score:.2f}{reasons.get(found.stopped, '')}"
    )


def what_step_one_did(result: PruneResult) -> str:
    """Return in a few words what step 1 did to the network as a whole."""
    before, after = result.macs_before, result.macs_after
    return (
        f"{before:,} -> {after:,} MACs ({before / after:.2f}x less), validation score "
        f"{100 * result.score_before:.2f} -> {100 * result.score_after:.2f}"
    )


def variant_line(record: VariantRecord) -> str:
    """Return a variant in a line."""
    interval = "" if record.interval is None else f" [{100 * record.interval[0]:.2f}, {100 * record.interval[1]:.2f}]"
    return (
        f"variant {record.variant}: {record.macs:,} MACs, {record.metric.name} "
        f"{100 * record.metric.value:.2f}{interval} on {record.metric.samples} images"
    )
