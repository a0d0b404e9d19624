"""The command prune: two-step pruning. It sits here because every variant is measured as it was exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import next_step, project_option

if TYPE_CHECKING:
    from exporter.project.settings import Project, PruneSection, TrainingSection
    from exporter.pruning.step_one import Round, StepOne
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
    from calibration.variants.prune_project import prune_two_step
    from calibration.variants.variant_maker import Listener, PruneRequest
    from coopexport.commands.options import choose_layers
    from exporter.project.settings import load_project
    from exporter.variants.layer_graphs import ORIGINAL, layer_graph

    project = load_project(project_file)
    settings, training = prune_settings(project, overrides)
    graph = layer_graph(project, ORIGINAL)
    every = not layer_names
    layers = choose_layers(project, graph, layer_names, every, "post-activation") if step == "2" else []
    request = PruneRequest(
        settings,
        training,
        tuple(layers),
        series,
        controls=not without_controls,
        named=bool(layer_names),
        replace=replace,
    )
    with _bar() as (on_round_name, on_progress):
        listener = Listener(
            on_start=on_round_name,
            on_round=lambda found: click.echo(round_line(found)),
            on_variant=lambda record: click.echo(variant_line(record)),
            on_skipped=lambda layer, reason: click.echo(f"left out {layer}: {reason}", err=True),
            on_progress=on_progress,
        )
        result = prune_two_step(project, request, listener)
    click.echo(f"step 1: {what_step_one_did(result)}")
    next_step("coopexport variants, then coopexport split --all")


def prune_settings(project: Project, overrides: dict[str, Any]) -> tuple[PruneSection, TrainingSection]:
    """Return the project's settings with the options that were given on the command line.

    Raises CoopexportError naming the option when a value is out of range.
    """
    from pydantic import ValidationError

    from exporter.project.settings import PruneSection, TrainingSection
    from jetson.errors import CoopexportError

    given = {key: value for key, value in overrides.items() if value is not None}
    pruning = {key: value for key, value in given.items() if key in PruneSection.model_fields}
    training = {key: value for key, value in given.items() if key in TrainingSection.model_fields}
    try:
        return (
            PruneSection.model_validate({**project.settings.prune.model_dump(), **pruning}),
            TrainingSection.model_validate({**project.settings.training.model_dump(), **training}),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        names = {option.name: f"{option.opts[0]}: " for option in two_step.params}
        where = names.get(str(problem["loc"][0]), "") if problem["loc"] else ""
        raise CoopexportError(where + problem["msg"].removeprefix("Value error, ")) from None


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


def what_step_one_did(result: StepOne) -> str:
    """Return in a few words what step 1 did to the network as a whole."""
    sizes = result.trained.dense.sizes()
    before, after = sum(size.macs_before for size in sizes), sum(size.macs_after for size in sizes)
    return (
        f"{before:,} -> {after:,} MACs ({before / after:.2f}x less), validation score "
        f"{100 * result.score_before:.2f} -> {100 * result.trained.score:.2f}"
    )


def variant_line(record: VariantRecord) -> str:
    """Return a variant in a line."""
    interval = "" if record.interval is None else f" [{100 * record.interval[0]:.2f}, {100 * record.interval[1]:.2f}]"
    return (
        f"variant {record.variant}: {record.macs:,} MACs, {record.metric.name} "
        f"{100 * record.metric.value:.2f}{interval} on {record.metric.samples} images"
    )


@contextmanager
def _bar() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None] | None]]:
    """Show on a terminal how far a round's training is; what is printed meanwhile stands above it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name: None, None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("pruning", total=None)

        def start(name: str) -> None:
            bar.reset(task, description=name, total=None)

        yield start, lambda done, total: bar.update(task, completed=done, total=total)
