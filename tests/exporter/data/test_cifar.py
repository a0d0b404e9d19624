"""CIFAR's binary files, written here byte by byte as their page describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.data.datasets import load_dataset
from exporter.project.settings import Project, load_project
from exporter.training.training_set import load_training_set
from jetson.errors import CoopexportError


def rows(labels: list[list[int]], seed: int = 0) -> tuple[bytes, np.ndarray]:
    """Return the file's bytes and the images (count x 32 x 32 x 3) in it."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    content = b""
    for numbers, image in zip(labels, images, strict=True):
        content += bytes(numbers)
        for channel in range(3):  # red, green, blue; each row by row
            content += bytes(int(value) for row in image[:, :, channel] for value in row)
    return content, images


def project_with(folder: Path, data: str) -> Project:
    file = folder / "coopexport.toml"
    file.write_text(
        'schema = "coopexport.project/1.0"\n[model]\nfactory = "n:f"\ncheckpoint = "c"\ninput_shape = [3, 32, 32]\n'
        f"[data]\ncalibration_samples = 8\n{data}\n"
    )
    return load_project(file)


@pytest.fixture
def cifar_10(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("airplane\n")
    images = {}
    for seed, name in enumerate(("test_batch", "data_batch_1", "data_batch_2")):
        content, images[name] = rows([[(seed + index) % 10] for index in range(5)], seed)
        (folder / f"{name}.bin").write_bytes(content)
    return tmp_path, images


def test_cifar_10_as_published(cifar_10: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, images = cifar_10
    name = "cifar-10-batches-bin"
    project = project_with(root, f'training = "{name}"\ncalibration = "{name}"\nevaluation = "{name}"')
    evaluation = load_dataset(project, "evaluation")
    assert np.array_equal(evaluation.images, images["test_batch"])
    assert evaluation.labels.tolist() == [0, 1, 2, 3, 4]
    trained = np.concatenate([images["data_batch_1"], images["data_batch_2"]])
    calibration = load_dataset(project, "calibration")
    assert np.array_equal(calibration.images, trained[:8])
    data = load_training_set(project)
    everything = np.arange(10)
    assert np.array_equal(data.inputs(everything), trained.transpose(0, 3, 1, 2))
    assert data.labels(everything).tolist() == [1, 2, 3, 4, 5, 2, 3, 4, 5, 6]


def test_one_file_serves_any_purpose(cifar_10: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, images = cifar_10
    project = project_with(root, 'validation = "cifar-10-batches-bin/data_batch_2.bin"')
    dataset = load_dataset(project, "validation")
    assert np.array_equal(dataset.images, images["data_batch_2"])
    assert dataset.name == "cifar-10-batches-bin/data_batch_2.bin"


def test_cifar_100_by_its_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    content, images = rows([[19, 99], [0, 11], [4, 0]])
    (folder / "train.bin").write_bytes(content)
    (folder / "test.bin").write_bytes(content[:3074])
    project = project_with(tmp_path, 'training = "cifar-100-binary"\nevaluation = "cifar-100-binary"')
    dataset = load_dataset(project, "training")
    assert dataset.labels.tolist() == [99, 11, 0]
    assert np.array_equal(dataset.images, images)
    assert load_dataset(project, "evaluation").labels.tolist() == [99]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("data_batch_1.bin", lambda content: content[:-1], ["9218 bytes", "3073", "inside row 2"]),
        ("data_batch_1.bin", lambda content: content + b"\0", ["9220 bytes", "inside row 3"]),
        ("data_batch_1.bin", lambda content: b"", ["0 bytes"]),
        (
            "data_batch_1.bin",
            lambda content: content[:3073] + b"\x0a" + content[3074:],
            ["row 1", "label 10", "0 to 9"],
        ),
        ("train.bin", lambda content: content, ["3074", "CIFAR-100"]),
        ("train.bin", lambda content: b"\x14\x00" + bytes(3072), ["row 0", "label 20", "0 to 19"]),
        ("train.bin", lambda content: b"\x13\x64" + bytes(3072), ["row 0", "label 100", "0 to 99"]),
    ],
)
def test_damaged_files_name_file_and_row(tmp_path: Path, name: str, change, words: list[str]) -> None:
    (tmp_path / name).write_bytes(change(rows([[1], [2], [3]])[0]))
    with pytest.raises(CoopexportError) as caught:
        load_dataset(project_with(tmp_path, f'training = "{name}"'), "training")
    for word in [name, *words]:
        assert word in str(caught.value)


def test_what_a_folder_cannot_give(cifar_10: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, _ = cifar_10
    (root / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    project = project_with(root, 'validation = "cifar-10-batches-bin"\nevaluation = "cifar-10-batches-bin"')
    with pytest.raises(CoopexportError, match=r"data.validation: .*leave it out"):
        load_dataset(project, "validation")
    with pytest.raises(CoopexportError, match=r"data.evaluation: .*neither test_batch.bin nor test.bin"):
        load_dataset(project, "evaluation")
    with pytest.raises(CoopexportError, match=r"data.calibration: .*gone.bin is missing"):
        load_dataset(project_with(root, 'calibration = "gone.bin"'), "calibration")
