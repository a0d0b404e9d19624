"""The demo, from data to a running pair: the same commands that a user types, on a network trained here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.demo.pair import PairResult, PredictedLatency, narrowest, predict_latencies, run_pair
from benchmarks.demo.prepare import Recipe, prepare_project
from benchmarks.selection.selector import INPUT, OUTPUT
from coopexport.command_line import main
from coopexport.output import print_table, wrote
from engines.backends.registry import find_backend
from engines.targets.lookup import find_target
from exporter.project.settings import load_project
from exporter.variants.plans import STEP_ONE
from jetson.errors import UnsupportedError

if TYPE_CHECKING:
    from exporter.training.fit import Epoch

LAYER = "conv4_1"


def run_demo(folder: Path, recipe: Recipe | None = None) -> PairResult:
    """Train, prune in two steps, split, build, measure, select, report, and run the pair on the held-out images.

    Everything is written into `folder`. Raises CoopexportError when an extra is missing or a step is refused.
    """
    recipe = recipe or Recipe()
    _check_extras()
    click.echo("making data: scikit-learn's handwritten digits on patches of its photographs, 32x32")
    from benchmarks.demo.data import make_data

    data = make_data(recipe.train_count, recipe.evaluation_count, recipe.seed)
    project_file = prepare_project(folder, recipe, data, _print_epoch, wrote)
    project_option = ["--project", str(project_file)]
    type_command("doctor")
    chosen_layers = [option for layer in recipe.step_two_layers for option in ("--layer", layer)]
    type_command("prune", "two-step", *project_option, *chosen_layers)
    type_command("variants", *project_option)
    type_command("layers", *project_option, "--variant", STEP_ONE)
    type_command("split", *project_option, "--layer", LAYER)
    type_command("split", *project_option, "--all")
    type_command("build", *project_option, "--target", "cpu")
    project = load_project(project_file)
    variant = narrowest(project, LAYER)
    _build_for_gpus(project_option, variant)
    type_command("bench", *project_option)
    type_command("select", *project_option)
    type_command("report", *project_option)
    result = run_pair(project, variant, LAYER)
    print_pair(result)
    print_predictions(LAYER, predict_latencies(project, result))
    return result


def _check_extras() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(f"the demo needs {error.name}", fix="pip install 'coopexport[demo]'") from None


def _print_epoch(epoch: Epoch) -> None:
    click.echo(f"training VGG-16, quarter width: epoch {epoch.number:g} of {epoch.of:g}, loss {epoch.loss:.4f}")


def type_command(*words: str) -> None:
    """Print a command as one would type it, and run it in this process."""
    click.echo(f"\n$ {shlex.join(['coopexport', *words])}")
    main.main(args=list(words), prog_name="coopexport", standalone_mode=False)


def _build_for_gpus(project_option: list[str], variant: str) -> None:
    """Build the demo's cut for two desktop GPUs where TensorRT-RTX is installed; say why not elsewhere."""
    for name in ("rtx-ampere", "rtx-ada"):
        target = find_target(name)
        available = find_backend(target.backend).can_build(target)
        if available.usable:
            type_command("build", *project_option, "--target", name, "--layer", LAYER, "--variant", variant)
        else:
            click.echo(f"\nleft out: engines for {name}: {available.reason}")


def print_pair(result: PairResult) -> None:
    """Print accuracy and bytes per image of the pair."""
    measured = result.metric
    click.echo(
        f"\nThe pair of {result.variant}, cut after {result.layer}, on {measured.samples} held-out images, one by one: "
        f"{measured.name} {100 * measured.value:.2f} % (unpruned network {100 * measured.reference:.2f} %; "
        f"{measured.only_reference_right} images lost, {measured.only_this_right} won), "
        f"{result.bytes_per_image:.1f} bytes per image."
    )


def print_predictions(layer: str, predicted: tuple[PredictedLatency, ...]) -> None:
    """Print the predicted latency of the pair, and of the best candidate, on every link."""
    rows = []
    for item in predicted:
        best = item.best
        where = {INPUT: "all on the edge", OUTPUT: "all on the device"}.get(best.layer, f"cut after {best.layer}")
        rows.append((item.link, f"{item.pair_ms:.3f}", f"{item.best_ms:.3f}", f"{best.variant}, {where}"))
    print_table("Predicted latency per network", ["link", f"{layer} ms", "best ms", "best"], rows)
