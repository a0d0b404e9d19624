"""The demo's recipe in numbers; its network trained and written as a project: data, project file and checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.project.settings import PROJECT_FILE, load_project
from exporter.project.template import project_text
from jetson.files.atomic_files import write_file

if TYPE_CHECKING:
    from benchmarks.demo.data import DemoData
    from exporter.training.fit import Epoch
from dataclasses import dataclass

# The cuts of the paper's figures: behind every convolution and every pool.
CANDIDATES = (
    "conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2", "conv3_3", "pool3",
    "conv4_1", "conv4_2", "conv4_3", "pool4", "conv5_1", "conv5_2", "conv5_3", "pool5",
)  # fmt: skip


def prepare_project(
    folder: Path,
    recipe: Recipe,
    data: DemoData,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
) -> Path:
    """Train the network, write data, project file and checkpoint into `folder`; return the project file.

    `on_epoch` gets how far the training is; `on_written` the project file, before the training, and the checkpoint.
    Raises OSError.
    """
    import torch
    from safetensors.torch import save

    from benchmarks.demo.data import write_npz
    from exporter.models.vgg import vgg16
    from exporter.training.fit import fit
    from exporter.training.training_set import load_training_set

    write_npz(folder / "data" / "training.npz", data.train_images, data.train_labels)
    write_npz(folder / "data" / "calibration.npz", data.calibration_images, data.calibration_labels)
    write_npz(folder / "data" / "evaluation.npz", data.evaluation_images, data.evaluation_labels)
    project_file = folder / PROJECT_FILE
    _write(project_file, demo_project_text(recipe).encode(), on_written)
    project = load_project(project_file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = vgg16(recipe.widths, strides=recipe.strides)
    training = project.settings.training
    fit(network, load_training_set(project), training, epochs=recipe.epochs, seed=recipe.seed, on_epoch=on_epoch)
    _write(folder / "network.safetensors", save(network.state_dict()), on_written)
    return project_file


def _write(path: Path, content: bytes, on_written: Callable[[Path], None] | None) -> None:
    write_file(str(path), content)
    if on_written is not None:
        on_written(path)


def demo_project_text(recipe: Recipe) -> str:
    """Return the demo's project file."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"training": "data/training.npz"},
        "training": {
            "optimizer": "adamw",
            "learning_rate": recipe.peak_learning_rate,
            "weight_decay": 0.05,
            "schedule": "one-cycle",
            "batch_images": recipe.batch_images,
            "shift_pixels": recipe.image_pixels // 16,
            "seed": recipe.seed,
            "threads": recipe.threads,
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
        "bench": {"memory": recipe.measures_memory},
        "bottleneck": {
            "maximum_loss_points": recipe.bottleneck_loss_points,
            "trainings": recipe.bottleneck_trainings,
            "stride": recipe.bottleneck_stride,
            "channels": recipe.bottleneck_channels,
            "bits": recipe.bottleneck_bits,
            "first_epochs": recipe.bottleneck_first_epochs,
            "epochs": recipe.bottleneck_epochs,
        },
    }
    values = {
        "name": "VGG-16 with a strided stem, digits on photographs",
        "factory": "exporter.models.vgg:vgg16",
        "arguments": {"widths": list(recipe.widths), "strides": list(recipe.strides), "classes": 10},
        "checkpoint": "network.safetensors",
        "input_shape": [3, recipe.image_pixels, recipe.image_pixels],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "candidates": list(recipe.candidates),
        "targets": ["cpu"],
    }
    return project_text(values, sections)


@dataclass(frozen=True)
class Recipe:
    """All choices of the demo.

    `widths`: filters of the 13 convolutions; `strides`: of the first ones, so that images of `image_pixels` are soon
    small and the work before an early cut is little. `train_count`, `evaluation_count`: images. `peak_learning_rate`:
    of one cycle; `seed`: of data, weights and order. Step 1 of pruning makes the MACs `macs_reduction` times fewer in
    `rounds`, each followed by `round_epochs`, all by `final_epochs`; step 2 takes `step_two_widths` widths at each of
    `step_two_layers`, each followed by `step_two_epochs` at a lower peak. The bottleneck is put behind
    `bottleneck_layer` of what step 1 left; its search begins with such a stride, channels and bits,
    and may cost so many points. `candidates`: what is cut after.
    `threads`: with two, on two cores of which one is busy, both wait for each other. `measures_memory`: of each engine,
    which takes a quarter of a minute here and says nothing of a device.
    """

    widths: tuple[int, ...] = (8, 16, 40, 40, 80, 80, 80, 128, 128, 128, 128, 128, 128)
    strides: tuple[int, ...] = (2,)
    image_pixels: int = 64
    measures_memory: bool = False
    train_count: int = 18000
    epochs: float = 2.0
    evaluation_count: int = 1000
    batch_images: int = 64
    peak_learning_rate: float = 0.003
    macs_reduction: float = 2.0
    rounds: int = 4
    round_epochs: float = 0.2
    final_epochs: float = 2.0
    score_images: int = 2000
    step_two_layers: tuple[str, ...] = ("conv4_1",)
    step_two_widths: int = 4
    step_two_epochs: float = 0.3
    step_two_learning_rate: float = 0.001
    bottleneck_layer: str = "pool1"
    bottleneck_loss_points: float = 1.0
    bottleneck_trainings: int = 2
    bottleneck_stride: int = 2
    bottleneck_channels: int = 4
    bottleneck_bits: int = 2
    bottleneck_first_epochs: float = 4.0
    bottleneck_epochs: float = 1.5
    candidates: tuple[str, ...] = CANDIDATES
    threads: int = 1
    seed: int = 0


# So much work behind the cut that on 3G a split pays even with a protocol's bytes; the demo's own network is too small.
LARGER = Recipe(widths=(8, 16, 80, 80, 160, 160, 160, 224, 224, 224, 224, 224, 224))
