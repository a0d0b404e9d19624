"""Datasets of the user's own, as PyTorch has them: samples by number, drawn when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_training import bits, toy_network, toy_settings

from exporter.data.datasets import load_dataset
from exporter.project.settings import Project, load_project
from exporter.training.fit import fit
from exporter.training.training_set import load_training_set, with_validation
from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import apply

CODE = """
import random
import numpy as np
import torch
from PIL import Image

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


class Samples:
    def __init__(self, make, count=40, label=lambda index: index % 4):
        self.make, self.count, self.label = make, count, label

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index), self.label(index)


def arrays():
    return Samples(lambda index: IMAGES[index])


def pictures():
    return Samples(lambda index: Image.fromarray(IMAGES[index]), label=lambda index: torch.tensor(index % 4))


def tensors():
    return Samples(lambda index: torch.full((3, 8, 8), float(index)), label=lambda index: np.int16(index % 4))


class Noisy(Samples):
    def __getitem__(self, index):
        noise = float(torch.rand(1)) + random.random() + np.random.rand()
        return torch.full((3, 8, 8), noise), noise


def noisy():
    return Noisy(None)


def channels_first():
    return Samples(lambda index: torch.from_numpy(IMAGES[index].transpose(2, 0, 1)))


def small():
    return Samples(lambda index: IMAGES[index, :5])


def other_floats():
    return Samples(lambda index: np.zeros((8, 8, 3), np.float32))


def words():
    return Samples(lambda index: IMAGES[index], label=lambda index: "cat")


def failing():
    return Samples(lambda index: IMAGES[99])


def single():
    return IMAGES


def none():
    return Samples(None, count=0)


def loss(outputs, labels):
    return ((outputs.mean(dim=1) - labels) ** 2).mean()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "cx_samples.py").write_text(CODE)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def project_with(folder: Path, function: str, purpose: str = "training") -> Project:
    (folder / "coopexport.toml").write_text(
        'schema = "coopexport.project/1.0"\n[model]\nfactory = "n:f"\ncheckpoint = "c"\ninput_shape = [3, 8, 8]\n'
        f'[preprocessing]\nscale = 0.5\n[data]\n{purpose} = "cx_samples:{function}"\n'
    )
    return load_project(folder / "coopexport.toml")


@pytest.mark.parametrize("function", ["arrays", "pictures"])
def test_images_are_preprocessed(folder: Path, function: str) -> None:
    project = project_with(folder, function)
    data = load_training_set(project)
    images = sys.modules["cx_samples"].IMAGES
    chosen = np.array([39, 0, 0, 6])
    assert len(data) == 40
    assert np.array_equal(data.inputs(chosen), apply(project.preprocessing, images[chosen]))
    assert data.labels(chosen).tolist() == [3, 0, 0, 2]
    assert data.labels(np.array([5])).tolist() == [1]


def test_floats_of_the_input_shape_are_taken_as_they_are(folder: Path) -> None:
    data = load_training_set(project_with(folder, "tensors"))
    inputs = data.inputs(np.array([7, 3]))
    assert inputs.dtype == np.float32
    assert inputs[:, 1, 2, 3].tolist() == [7.0, 3.0]


def test_labels_are_of_the_draw_that_the_inputs_are_of(folder: Path) -> None:
    data = load_training_set(project_with(folder, "noisy"))
    for _ in range(2):
        inputs = data.inputs(np.arange(4))
        assert np.allclose(data.labels(np.arange(4)), inputs[:, 0, 0, 0])


def test_random_transforms_are_seeded_and_resumed(folder: Path, tmp_path: Path) -> None:
    project = project_with(folder, "noisy")
    data = load_training_set(project)
    settings = toy_settings(loss="cx_samples:loss")

    def trained(**options) -> dict[str, bytes]:
        network = toy_network()
        fit(network, data, settings, epochs=3, seed=5, folder=folder, **options)
        return bits(network)

    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    expected = trained()
    assert trained() == expected
    with pytest.raises(StoppedError):
        trained(state_file=tmp_path / "state", on_epoch=stop)
    assert trained(state_file=tmp_path / "state") == expected


def test_a_share_is_set_apart(folder: Path) -> None:
    project = project_with(folder, "tensors")
    trained, judged = with_validation(project, load_training_set(project))
    numbers = [part.inputs(np.arange(len(part)))[:, 0, 0, 0].tolist() for part in (trained, judged)]
    assert len(numbers[1]) == 4
    assert sorted(numbers[0] + numbers[1]) == list(range(40))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("channels_first", ["sample 0 is uint8 of shape (3, 8, 8)", "height x width x 3"]),
        ("small", ["sample 0 comes out of preprocessing", "(3, 5, 8)", "model.input_shape"]),
        ("other_floats", ["float32 of shape (8, 8, 3)", "(3, 8, 8)"]),
        ("failing", ["sample 0", "IndexError"]),
        ("single", ["sample 0 is a ndarray", "(image, label)"]),
        ("none", ["no samples"]),
    ],
)
def test_samples_that_do_not_fit(folder: Path, function: str, words: list[str]) -> None:
    with pytest.raises(CoopexportError) as caught:
        load_training_set(project_with(folder, function))
    for word in [f"cx_samples:{function}", *words]:
        assert word in str(caught.value)


def test_labels_must_be_numbers(folder: Path) -> None:
    with pytest.raises(CoopexportError, match="cx_samples:words: labels are <U3"):
        fit(toy_network(), load_training_set(project_with(folder, "words")), toy_settings(), epochs=1, seed=0)


def test_evaluation_needs_arrays(folder: Path) -> None:
    with pytest.raises(CoopexportError, match=r"data.evaluation cx_samples:arrays must return \(images, labels\)"):
        load_dataset(project_with(folder, "arrays", "evaluation"), "evaluation")
