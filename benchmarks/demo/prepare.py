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
        network = vgg16(recipe.widths)
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
        "std": [0.25, 0.25, 0.25],
        "candidates": list(CANDIDATES),
        "targets": ["cpu"],
    }
    return project_text(values, sections)


@dataclass(frozen=True)
class Recipe:
    """All choices of the demo.

    `widths`: filters of the 13 convolutions, a quarter of VGG-16's. `train_count`, `evaluation_count`: images.
    `peak_learning_rate`: of one cycle; `seed`: of data, weights and order. Step 1 of pruning makes the MACs
    `macs_reduction` times fewer in `rounds`, each followed by `round_epochs`, all by `final_epochs`; step 2 takes
    `step_two_widths` widths at each of `step_two_layers`, each followed by `step_two_epochs` at a lower peak.
    """

    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
    train_count: int = 18000
    epochs: float = 2.0
    evaluation_count: int = 1000
    peak_learning_rate: float = 0.002
    macs_reduction: float = 6.0
    rounds: int = 6
    round_epochs: float = 0.15
    final_epochs: float = 4.0
    score_images: int = 2000
    step_two_layers: tuple[str, ...] = ("conv3_3", "conv4_1")
    step_two_widths: int = 5
    step_two_epochs: float = 0.3
    step_two_learning_rate: float = 0.001
    seed: int = 0
