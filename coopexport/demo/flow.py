"""The demo, from data to a running pair: the same commands that a user types, on a network trained here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.demo.recipe import Recipe
from benchmarks.selection.project_selection import select_for_project
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms
from calibration.metrics import metric
from coopexport.commands.bench import bench
from coopexport.commands.build import build
from coopexport.commands.doctor import doctor
from coopexport.commands.layers import layers
from coopexport.commands.prune import two_step
from coopexport.commands.report import report
from coopexport.commands.select import select
from coopexport.commands.split import split
from coopexport.commands.variants import variants
from coopexport.output import print_table, wrote
from engines.backends.registry import find_backend
from engines.building.build_items import item_of_whole
from engines.building.open_engine import open_engine
from engines.building.pair import open_pair
from engines.targets.lookup import find_target
from exporter.bundles.bundle import Metric
from exporter.data.datasets import load_dataset, network_inputs
from exporter.project.settings import PROJECT_FILE, Project, load_project
from exporter.project.template import project_text
from exporter.variants.layer_graphs import ORIGINAL, STEP_ONE
from exporter.variants.layer_graphs import variants as names_of
from exporter.variants.record import read_variant_record
from jetson.engines.golden_check import run_in_batches
from jetson.errors import CoopexportError
from jetson.files.atomic_files import write_file

if TYPE_CHECKING:
    from benchmarks.demo.data import DemoData

LAYER = "conv4_1"
# The cuts of the paper's figures: behind every convolution and every pool.
CANDIDATES = (
    "conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2", "conv3_3", "pool3",
    "conv4_1", "conv4_2", "conv4_3", "pool4", "conv5_1", "conv5_2", "conv5_3", "pool5",
)  # fmt: skip


@dataclass(frozen=True)
class PairResult:
    """What the running pair of a variant gave on the held-out images.

    `metric`: of the pair, against the unpruned network; `bytes_per_image`: mean message size.
    """

    variant: str
    layer: str
    metric: Metric
    bytes_per_image: float


def run_demo(folder: Path, recipe: Recipe | None = None) -> PairResult:
    """Train, prune in two steps, split, build, measure, select, report, and run the pair on the held-out images.

    Everything is written into `folder`. Raises CoopexportError when an extra is missing or a step is refused.
    """
    recipe = recipe or Recipe()
    _require_extras()
    click.echo("making data: scikit-learn's handwritten digits on patches of its photographs, 32x32")
    from benchmarks.demo.data import make_data

    project_file = prepare(folder, recipe, make_data(recipe.train_count, recipe.evaluation_count, recipe.seed))
    project_option = ["--project", str(project_file)]
    run_command(doctor, [])
    chosen_layers = [option for layer in recipe.step_two_layers for option in ("--layer", layer)]
    run_command(two_step, [*project_option, *chosen_layers], "prune two-step")
    run_command(variants, project_option)
    run_command(layers, [*project_option, "--variant", STEP_ONE])
    run_command(split, [*project_option, "--layer", LAYER])
    run_command(split, [*project_option, "--all"])
    run_command(build, [*project_option, "--target", "cpu"])
    project = load_project(project_file)
    variant = narrowest(project, LAYER)
    _build_for_gpus(project_option, variant)
    run_command(bench, project_option)
    run_command(select, project_option)
    run_command(report, project_option)
    result = run_pair(project, variant, LAYER)
    print_pair(project, result)
    return result


def narrowest(project: Project, layer: str) -> str:
    """Return the variant that sends the fewest channels after `layer` within the project's bound of accuracy.

    Step 1 where none of step 2 keeps it.
    """
    records = [read_variant_record(project.variant_folder(name)) for name in names_of(project) if name != ORIGINAL]
    bound = project.settings.select.maximum_loss_points
    narrow = [
        record
        for record in records
        if record.step == "step2" and record.method["layer"] == layer and record.metric.loss_points <= bound
    ]
    return min(narrow, key=lambda record: int(record.method["width"])).variant if narrow else STEP_ONE


def _require_extras() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise CoopexportError(f"the demo needs {error.name}; pip install 'coopexport[demo]'") from None


def prepare(folder: Path, recipe: Recipe, data: DemoData) -> Path:
    """Train the network, write data, project file and checkpoint; return the project file."""
    import torch
    from safetensors.torch import save

    from benchmarks.demo.data import write_npz
    from exporter.models.vgg import vgg16
    from exporter.training.fit import Epoch, fit
    from exporter.training.training_set import load_training_set

    write_npz(folder / "data" / "training.npz", data.train_images, data.train_labels)
    write_npz(folder / "data" / "calibration.npz", data.calibration_images, data.calibration_labels)
    write_npz(folder / "data" / "evaluation.npz", data.evaluation_images, data.evaluation_labels)
    project_file = folder / PROJECT_FILE
    write_file(str(project_file), demo_project_text(recipe).encode())
    wrote(project_file)
    project = load_project(project_file)

    def on_epoch(epoch: Epoch) -> None:
        click.echo(f"training VGG-16, quarter width: epoch {epoch.number:g} of {epoch.of:g}, loss {epoch.loss:.4f}")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = vgg16(recipe.widths)
    training = project.settings.training
    fit(network, load_training_set(project), training, epochs=recipe.epochs, seed=recipe.seed, on_epoch=on_epoch)
    _write_weights(folder / "network.safetensors", save(network.state_dict()))
    return project_file


def demo_project_text(recipe: Recipe) -> str:
    """Return the demo's project file."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"training": "data/training.npz"},
        "training": {
            "optimizer": "adamw",
            "learning_rate": recipe.peak_learning_rate,
            "weight_decay": 0.05,
            "schedule": "one-cycle",
            "shift_pixels": 2,
            "seed": recipe.seed,
            "threads": 1,  # with two, on two cores of which one is busy, both wait for each other
        },
        "prune": {
            "score_images": recipe.score_images,
            "epochs": recipe.round_epochs,
            "final_epochs": recipe.final_epochs,
            "maximum_loss_points": 10.0,  # of rounds that are hardly trained; the network is judged at the end
            "least_left": 0.05,
            "macs_reduction": recipe.macs_reduction,
            "rounds": recipe.rounds,
            "widths": recipe.step_two_widths,
            "step_two_epochs": recipe.step_two_epochs,
            "step_two_learning_rate": recipe.step_two_learning_rate,
        },
    }
    values = {
        "name": "VGG-16, quarter width, digits on photographs",
        "factory": "exporter.models.vgg:vgg16",
        "arguments": {"widths": list(recipe.widths), "classes": 10},
        "checkpoint": "network.safetensors",
        "input_shape": [3, 32, 32],
        "mean": [0.5, 0.5, 0.5],
        "deviation": [0.25, 0.25, 0.25],
        "candidates": list(CANDIDATES),
        "targets": ["cpu"],
    }
    return project_text(values, sections)


def _write_weights(path: Path, content: bytes) -> None:
    write_file(str(path), content)
    wrote(path)


def run_command(command: click.Command, arguments: Sequence[str], name: str | None = None) -> None:
    """Print a command as one would type it, and run it in this process; `name`: its own, and its group's before it."""
    words = (name or str(command.name)).split()
    click.echo(f"\n$ {shlex.join(['coopexport', *words, *arguments])}")
    command.main(args=list(arguments), standalone_mode=False)


def _build_for_gpus(project_option: list[str], variant: str) -> None:
    """Build the demo's cut for two desktop GPUs where TensorRT-RTX is installed; say why not elsewhere."""
    for name in ("rtx-ampere", "rtx-ada"):
        target = find_target(name)
        available = find_backend(target.backend).can_build(target)
        if available.usable:
            run_command(build, [*project_option, "--target", name, "--layer", LAYER, "--variant", variant])
        else:
            click.echo(f"\nleft out: engines for {name}: {available.reason}")


def run_pair(project: Project, variant: str, layer: str) -> PairResult:
    """Push every held-out image, one by one, through head, bytes and tail; compare with the unpruned network."""
    cpu = find_target("cpu")
    evaluation = load_dataset(project, "evaluation")
    pair = open_pair(project.variant_folder(variant), layer, cpu, cpu)
    outputs: list[NDArray[np.float32]] = []
    sizes: list[int] = []
    for image in evaluation.images:
        scores, size_bytes = pair.infer(image)
        outputs.append(scores)
        sizes.append(size_bytes)
    unpruned = open_engine(item_of_whole(project.variant_folder(ORIGINAL)), cpu)
    reference = run_in_batches(unpruned, [network_inputs(project, evaluation)], batch=1)[0]
    chosen = metric.load_metric(project)
    compared = metric.compare(
        metric.score(chosen, reference, evaluation.labels),
        metric.score(chosen, np.concatenate(outputs), evaluation.labels),
    )
    return PairResult(variant, layer, compared, float(np.mean(sizes)))


def print_pair(project: Project, result: PairResult) -> None:
    """Print accuracy, bytes per image and predicted latency per network of the pair."""
    measured = result.metric
    click.echo(
        f"\nThe pair of {result.variant}, cut after {result.layer}, on {measured.samples} held-out images, one by one: "
        f"{measured.name} {100 * measured.value:.2f} % (unpruned network {100 * measured.reference:.2f} %; "
        f"{measured.only_reference_right} images lost, {measured.only_this_right} won), "
        f"{result.bytes_per_image:.1f} bytes per image."
    )
    selection = select_for_project(project, project.settings.select, "cpu").selection
    candidate = next(c for c in selection.candidates if (c.variant, c.layer) == (result.variant, result.layer))
    rows: list[tuple[Any, ...]] = []
    for choice in selection.links:
        best = selection.candidates[choice.candidate]
        where = {INPUT: "all on the edge", OUTPUT: "all on the device"}.get(best.layer, f"cut after {best.layer}")
        rows.append(
            (choice.link, f"{latency_ms(candidate, choice.goodput_bps):.3f}", f"{choice.latency_ms:.3f}",
             f"{best.variant}, {where}")
        )  # fmt: skip
    print_table("Predicted latency per network", ["link", f"{result.layer} ms", "best ms", "best"], rows)
