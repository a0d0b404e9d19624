"""The network whose features are coded: the demo's VGG-16 in full width, trained on the demo's data, and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save

from benchmarks.demo.data import DemoData, make_data
from benchmarks.studies.page_command import say
from exporter.models.vgg import FULL_WIDTHS, VGG16, vgg16
from exporter.project.settings import TrainingSection
from exporter.training.fit import fit
from exporter.training.training_set import training_set_of_arrays
from jetson.files.atomic_files import write_file
from jetson.runtime import preprocessing
from jetson.runtime.preprocessing import Preprocessing

# As the demo declares it: pixels to about -2 to 2.
PREPROCESSING = Preprocessing(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
_BATCH = 64


@dataclass(frozen=True)
class NetworkRecipe:
    """How the network is trained: on `train_count` of the demo's images; peak of one cycle of learning rates."""

    widths: tuple[int, ...] = FULL_WIDTHS
    train_count: int = 8000
    evaluation_count: int = 500
    epochs: int = 2
    peak_learning_rate: float = 0.001
    seed: int = 0


def default_cache() -> Path:
    """Return the folder that keeps trained networks between runs: the user's cache, never the repository."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "coopexport" / "benchmarks"


def trained_network(recipe: NetworkRecipe, cache: Path) -> tuple[VGG16, DemoData]:
    """Return the network of `recipe` in eval mode, from `cache` where it was trained before, and its data."""
    data = make_data(recipe.train_count, recipe.evaluation_count, recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = vgg16(recipe.widths)
    path = cache / f"vgg16-{_identity(recipe, data)}.safetensors"
    if path.exists():
        say(f"taking the trained network from {path}")
        network.load_state_dict(load(path.read_bytes()))
        return network.eval(), data
    say(f"training VGG-16 of {recipe.widths[0]} to {recipe.widths[-1]} filters on {recipe.train_count} images")
    training = TrainingSection(
        optimizer="adamw", learning_rate=recipe.peak_learning_rate, weight_decay=0.05, schedule="one-cycle",
        shift_pixels=2, device="cpu",
    )  # fmt: skip
    images = training_set_of_arrays("the demo's", data.train_images, data.train_labels, PREPROCESSING)
    fit(
        network, images, training, epochs=recipe.epochs, seed=recipe.seed,
        on_epoch=lambda epoch: say(f"epoch {epoch.number:g} of {epoch.of:g}, loss {epoch.loss:.4f}"),
    )  # fmt: skip
    write_file(str(path), save(network.state_dict()))
    say(f"wrote {path}")
    return network, data


def features(network: VGG16, images: NDArray[np.uint8], layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the outputs, N x C x H x W, of `layers` (of `network.features`) for `images`, N x 32 x 32 x 3 uint8."""
    found: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            values = torch.from_numpy(preprocessing.apply(PREPROCESSING, images[start : start + _BATCH]))
            for name, module in network.features.named_children():
                values = module(values)
                if name in found:
                    found[name].append(values.numpy().copy())
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def top1(network: VGG16, layer: str, values: Iterator[NDArray[np.float32]], labels: NDArray[np.int64]) -> float:
    """Return the share of right answers when the network goes on behind `layer` with `values`, batch by batch."""
    names = [name for name, _ in network.features.named_children()]
    rest = network.features[names.index(layer) + 1 :]
    answers = []
    with torch.no_grad():
        for batch in values:
            scores = network.classifier(torch.flatten(rest(torch.from_numpy(batch)), 1))
            answers.append(scores.argmax(dim=1).numpy())
    return float((np.concatenate(answers) == labels).mean())


def _identity(recipe: NetworkRecipe, data: DemoData) -> str:
    """Return a hash of all that the trained network depends on, torch's version included."""
    content = hashlib.sha256(repr((sorted(asdict(recipe).items()), torch.__version__)).encode())
    content.update(data.train_images.tobytes())
    return content.hexdigest()[:16]
