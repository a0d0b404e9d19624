"""The demo, from data to a running pair: the same commands that a user types, on a network trained here."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.demo.pair import (
    PairResult,
    PredictedLatency,
    WhereItPays,
    narrowest,
    predict_latencies,
    run_pair,
    strongest_bottleneck,
    where_it_pays,
)
from benchmarks.demo.prepare import Recipe, prepare_project
from benchmarks.selection.selector import describe
from coopexport.command_line import main
from coopexport.output import print_table, wrote
from engines.backends.registry import find_backend
from engines.targets.lookup import find_target
from exporter.project.settings import load_project
from exporter.variants.plans import ORIGINAL, STEP_ONE
from jetson.errors import UnsupportedError

if TYPE_CHECKING:
    from exporter.training.fit import Epoch

LAYER = "conv4_1"


def run_demo(folder: Path, recipe: Recipe | None = None) -> PairResult:
    """Train, prune in two steps, put a bottleneck at a cut, split, build, measure, select, report, and run the pairs.

    Everything is written into `folder`. Returns what the pair of the strongest bottleneck gave on the held-out images;
    where none keeps the bound, that of the narrowest network of step 2. Raises CoopexportError when an extra is missing
    or a step is refused.
    """
    recipe = recipe or Recipe()
    _check_extras()
    click.echo("making data: scikit-learn's handwritten digits on patches of its photographs")
    from benchmarks.demo.data import make_data

    data = make_data(recipe.train_count, recipe.evaluation_count, recipe.seed, recipe.image_pixels)
    project_file = prepare_project(folder, recipe, data, _print_epoch, wrote)
    project_option = ["--project", str(project_file)]
    type_command("doctor")
    chosen_layers = [option for layer in recipe.step_two_layers for option in ("--layer", layer)]
    type_command("prune", "two-step", *project_option, "--step", "1")
    at = ("--layer", recipe.bottleneck_layer, "--variant", STEP_ONE)
    with typed_in_background("bottleneck", *project_option, *at):
        type_command("prune", "two-step", *project_option, *chosen_layers)
        type_command("layers", *project_option, "--variant", STEP_ONE)
        type_command("split", *project_option, "--layer", LAYER)
        type_command("split", *project_option, "--all", "--variant", ORIGINAL, "--variant", STEP_ONE)
    project = load_project(project_file)
    if strongest_bottleneck(project) is not None:
        type_command("split", *project_option, "--all", "--variant", f"{STEP_ONE}-{recipe.bottleneck_layer}-*")
    type_command("variants", *project_option)
    type_command("build", *project_option, "--target", "cpu")
    pairs = [(narrowest(project, LAYER), LAYER)]
    bottleneck = strongest_bottleneck(project)
    if bottleneck is not None:
        pairs.append(bottleneck)
    _build_for_gpus(project_option, *pairs[-1])
    type_command("bench", *project_option)
    type_command("select", *project_option)
    type_command("report", *project_option)
    for variant, layer in pairs:
        result = run_pair(project, variant, layer)
        print_pair(result)
    print_predictions(predict_latencies(project, result))
    print_where_it_pays(where_it_pays(project))
    return result


def _check_extras() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(f"the demo needs {error.name}", fix="pip install 'coopexport[demo]'") from None


def _print_epoch(epoch: Epoch) -> None:
    click.echo(f"training VGG-16 with a strided stem: epoch {epoch.number:g} of {epoch.of:g}, loss {epoch.loss:.4f}")


def type_command(*words: str) -> None:
    """Print a command as one would type it, and run it in this process."""
    click.echo(f"\n$ {shlex.join(['coopexport', *words])}")
    main.main(args=list(words), prog_name="coopexport", standalone_mode=False)


@contextmanager
def typed_in_background(*words: str) -> Iterator[None]:
    """Print a command as one would type it, run it on another core, and print what it said when the block is done.

    A refusal (exit code 2) is printed like the rest. Raises RuntimeError when it ends otherwise.
    """
    click.echo(f"\n$ {shlex.join(['coopexport', *words])} &")
    command = [sys.executable, "-P", "-m", "coopexport", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield
            said, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    click.echo(f"\n[done] {shlex.join(['coopexport', *words])}")
    click.echo(said, nl=False)
    if process.returncode not in (0, 2):
        raise RuntimeError(f"coopexport {words[0]} ended with exit code {process.returncode}")


def _build_for_gpus(project_option: list[str], variant: str, layer: str) -> None:
    """Build a pair for two desktop GPUs where TensorRT-RTX is installed; say why not elsewhere."""
    for name in ("rtx-ampere", "rtx-ada"):
        target = find_target(name)
        available = find_backend(target.backend).can_build(target)
        if available.usable:
            type_command("build", *project_option, "--target", name, "--layer", layer, "--variant", variant)
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


def print_predictions(predicted: tuple[PredictedLatency, ...]) -> None:
    """Print on every link the predicted latency of the pair, of the network without a cut, and what is chosen."""
    rows = [
        (
            item.link,
            f"{item.pair_ms:.3f}",
            f"{item.device_ms:.3f}",
            f"{item.edge_ms:.3f}",
            f"{item.gain:.2f}x",
            describe(item.best),
        )
        for item in predicted
    ]
    columns = ["link", "pair ms", "device only ms", "edge only ms", "gain", "chosen"]
    print_table("Predicted latency per network: the pair, and the best without a cut", columns, rows)


def print_where_it_pays(found: WhereItPays) -> None:
    """Print at which goodput a split pays most."""
    where = f"at {found.goodput_bps / 1e6:.3g} Mbit/s: {found.gain:.2f}x the speed of the best without a cut"
    said = "A split pays most" if found.gain > 1 else "A split does not pay on any link; it comes nearest"
    click.echo(f"{said} {where}. The map of goodputs and slower devices is in report.html.")
