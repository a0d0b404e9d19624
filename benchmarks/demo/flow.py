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

from benchmarks.commands import bench, report, run_selection, select
from benchmarks.demo.recipe import Recipe
from benchmarks.selector import INPUT, OUTPUT, latency_ms
from calibration import metric
from calibration.shrink_command import shrink
from calibration.split_command import split
from engines.backends import find_backend
from engines.build import item_of_whole, open_engine, run_batches
from engines.commands import build, doctor
from engines.pair import open_pair
from engines.targets import find_target
from exporter.bundle import Metric
from exporter.command_line import print_table, wrote
from exporter.commands import layers
from exporter.datasets import load_dataset, network_inputs
from exporter.project import PROJECT_FILE, Project, load_project
from exporter.project_template import project_text
from exporter.variants import ORIGINAL, PRUNED
from jetson.atomic_files import write_file
from jetson.errors import CoopexportError

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
    """What the running pair gave on the held-out images.

    `metric`: of the pair, against the unpruned network; `bytes_per_image`: mean message size.
    """

    layer: str
    metric: Metric
    bytes_per_image: float


def run_demo(folder: Path, recipe: Recipe | None = None) -> PairResult:
    """Train, prune, shrink, split, build, measure, select, report, and run the pair on the held-out images.

    Everything is written into `folder`. Raises CoopexportError when an extra is missing or a step is refused.
    """
    recipe = recipe or Recipe()
    _require_extras()
    click.echo("making data: scikit-learn's handwritten digits on patches of its photographs, 32x32")
    from benchmarks.demo.data import make_data

    project_file = prepare(folder, recipe, make_data(recipe.train_count, recipe.evaluation_count, recipe.seed))
    project_option = ["--project", str(project_file)]
    run_command(doctor, [])
    run_command(shrink, project_option)
    run_command(layers, [*project_option, "--variant", PRUNED])
    run_command(split, [*project_option, "--layer", LAYER])
    run_command(split, [*project_option, "--all"])
    run_command(build, [*project_option, "--target", "cpu"])
    _build_for_gpus(project_option)
    run_command(bench, project_option)
    run_command(select, project_option)
    run_command(report, project_option)
    project = load_project(project_file)
    result = run_pair(project, PRUNED, LAYER)
    print_pair(project, result)
    return result


def _require_extras() -> None:
    try:
        import sklearn  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise CoopexportError(f"the demo needs {error.name}; pip install 'coopexport[demo]'") from None


def prepare(folder: Path, recipe: Recipe, data: DemoData) -> Path:
    """Train and prune the network, write data, project file, checkpoints and masks; return the project file."""
    import torch
    from safetensors.torch import save

    from benchmarks.demo.data import write_npz
    from benchmarks.demo.training import l1_masks, train
    from exporter.masked_network import masked_network
    from exporter.masks import Masks, write_masks
    from exporter.models.vgg import vgg16

    write_npz(folder / "data" / "calibration.npz", data.calibration_images, data.calibration_labels)
    write_npz(folder / "data" / "evaluation.npz", data.evaluation_images, data.evaluation_labels)
    project_file = folder / PROJECT_FILE
    write_file(str(project_file), demo_project_text(recipe).encode())
    wrote(project_file)
    project = load_project(project_file)

    # On two cores of which one is busy, two threads wait for each other: minutes instead of seconds an epoch.
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    network = vgg16(recipe.widths)

    def fit(trained: torch.nn.Module, label: str, epochs: int, peak_learning_rate: float, seed: int) -> None:
        def on_epoch(epoch: int, loss: float) -> None:
            click.echo(f"{label}: epoch {epoch + 1} of {epochs}, loss {loss:.4f}")

        train(
            trained,
            data.train_images,
            data.train_labels,
            project.preprocessing,
            epochs,
            peak_learning_rate,
            seed,
            on_epoch,
        )

    fit(network, "training VGG-16, quarter width", recipe.epochs, recipe.peak_learning_rate, recipe.seed)
    _write_weights(folder / "network.safetensors", save(network.state_dict()))
    keep = l1_masks(network, lambda name: recipe.keep_fraction)
    masks = Masks(keep, "channel", f"L1 filter norm, {recipe.keep_fraction:.0%} kept in every layer")
    inputs = torch.from_numpy(network_inputs(project, load_dataset(project, "calibration").first(8)))
    fit(
        masked_network(network, masks, inputs), "fine-tuning with masks", recipe.fine_tune_epochs,
        recipe.fine_tune_peak_learning_rate, recipe.seed + 1,
    )  # fmt: skip
    _write_weights(folder / "pruned.safetensors", save(network.state_dict()))
    write_masks(folder / "masks.safetensors", masks)
    wrote(folder / "masks.safetensors")
    return project_file


def demo_project_text(recipe: Recipe) -> str:
    """Return the demo's project file."""
    return project_text(
        name="VGG-16, quarter width, digits on photographs",
        factory="exporter.models.vgg:vgg16",
        arguments={"widths": list(recipe.widths), "classes": 10},
        checkpoint="network.safetensors",
        masks="masks.safetensors",
        pruned_checkpoint="pruned.safetensors",
        input_shape=[3, 32, 32],
        mean=[0.5, 0.5, 0.5],
        deviation=[0.25, 0.25, 0.25],
        candidates=list(CANDIDATES),
        targets=["cpu"],
    )


def _write_weights(path: Path, content: bytes) -> None:
    write_file(str(path), content)
    wrote(path)


def run_command(command: click.Command, arguments: Sequence[str]) -> None:
    """Print a command as one would type it, and run it in this process."""
    click.echo(f"\n$ {shlex.join(['coopexport', str(command.name), *arguments])}")
    command.main(args=list(arguments), standalone_mode=False)


def _build_for_gpus(project_option: list[str]) -> None:
    """Build the demo's cut for two desktop GPUs where TensorRT-RTX is installed; say why not elsewhere."""
    for name in ("rtx-ampere", "rtx-ada"):
        target = find_target(name)
        available = find_backend(target.backend).can_build(target)
        if available.usable:
            run_command(build, [*project_option, "--target", name, "--layer", LAYER])
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
    reference = run_batches(unpruned, [network_inputs(project, evaluation)], batch=1)[0]
    chosen = metric.load_metric(project)
    compared = metric.compare(
        metric.score(chosen, reference, evaluation.labels),
        metric.score(chosen, np.concatenate(outputs), evaluation.labels),
    )
    return PairResult(layer, compared, float(np.mean(sizes)))


def print_pair(project: Project, result: PairResult) -> None:
    """Print accuracy, bytes per image and predicted latency per network of the pair."""
    measured = result.metric
    click.echo(
        f"\nThe pair cut after {result.layer}, on {measured.samples} held-out images, one by one: "
        f"{measured.name} {100 * measured.value:.2f} % (unpruned network {100 * measured.reference:.2f} %; "
        f"{measured.only_reference_right} images lost, {measured.only_this_right} won), "
        f"{result.bytes_per_image:.1f} bytes per image."
    )
    selection = run_selection(project, "cpu", {}).selection
    candidate = next(c for c in selection.candidates if (c.variant, c.layer) == (PRUNED, result.layer))
    rows: list[tuple[Any, ...]] = []
    for choice in selection.links:
        best = selection.candidates[choice.candidate]
        where = {INPUT: "all on the edge", OUTPUT: "all on the device"}.get(best.layer, f"cut after {best.layer}")
        rows.append(
            (choice.link, f"{latency_ms(candidate, choice.goodput_bps):.3f}", f"{choice.latency_ms:.3f}",
             f"{best.variant}, {where}")
        )  # fmt: skip
    print_table("Predicted latency per network", ["link", f"{result.layer} ms", "best ms", "best"], rows)
