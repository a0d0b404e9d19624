"""Folders of images by class: labels, sizes, what is left out, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.data.datasets import load_dataset
from exporter.data.image_folder import read_image
from exporter.project.settings import Project, load_project
from exporter.training.training_set import load_training_set
from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import apply

GENERATOR = np.random.default_rng(0)


def drawn(height: int, width: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(file: Path, image: np.ndarray) -> np.ndarray:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)
    return image


def project_with(folder: Path, data: str, preprocessing: str = "", input_shape: str = "[3, 6, 8]") -> Project:
    file = folder / "coopexport.toml"
    file.write_text(
        f'schema = "coopexport.project/1.0"\n[model]\nfactory = "n:f"\ncheckpoint = "c"\ninput_shape = {input_shape}\n'
        f"[preprocessing]\n{preprocessing}\n[data]\ncalibration_samples = 8\n{data}\n"
    )
    return load_project(file)


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """Two classes of 6x8 images, beside things that are not images."""
    images = [save(tmp_path / "t" / "cat" / f"{index}.png", drawn(6, 8)) for index in range(2)]
    images += [save(tmp_path / "t" / "dog" / f"{index}.BMP", drawn(6, 8)) for index in range(10)]
    (tmp_path / "t" / "README.md").write_text("about")
    (tmp_path / "t" / "dog" / "notes.txt").write_text("about dogs")
    (tmp_path / "t" / "dog" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "t" / ".cache").mkdir()
    return tmp_path, images


def test_classes_are_numbered_by_name(tree: tuple[Path, list[np.ndarray]]) -> None:
    root, images = tree
    dataset = load_dataset(project_with(root, 'evaluation = "t"'), "evaluation")
    assert dataset.name == "t"
    assert np.array_equal(dataset.images, images)
    assert dataset.labels.tolist() == [0] * 2 + [1] * 10
    assert dataset.labels.dtype == np.int64


def test_calibration_reads_a_few_from_everywhere(tree: tuple[Path, list[np.ndarray]]) -> None:
    root, images = tree
    (root / "t" / "dog" / "0.BMP").write_bytes(b"never read")
    dataset = load_dataset(project_with(root, 'calibration = "t"'), "calibration")
    chosen = [index * 12 // 8 for index in range(8)]
    assert np.array_equal(dataset.images, [images[index] for index in chosen])
    assert set(dataset.labels.tolist()) == {0, 1}


def test_training_is_read_when_asked_for(tree: tuple[Path, list[np.ndarray]]) -> None:
    root, images = tree
    (root / "t" / "dog" / "5.BMP").write_bytes(b"no image")
    project = project_with(root, 'training = "t"', "scale = 0.5")
    data = load_training_set(project)
    assert (len(data), data.layout, data.name) == (12, "NCHW", "t")
    chosen = np.array([11, 0, 0, 3])
    assert np.array_equal(data.inputs(chosen), apply(project.preprocessing, [images[index] for index in chosen]))
    assert data.labels(chosen).tolist() == [1, 0, 0, 1]
    with pytest.raises(CoopexportError, match=r"5\.BMP cannot be read as an image"):
        data.inputs(np.array([7]))


def test_sizes_may_differ_where_preprocessing_makes_them_equal(tmp_path: Path) -> None:
    images = [
        save(tmp_path / "t" / name / "1.png", drawn(*size)) for name, size in {"a": (20, 30), "b": (9, 9)}.items()
    ]
    project = project_with(tmp_path, 'training = "t"', "resize = 9\ncrop = [6, 8]")
    found = load_training_set(project).inputs(np.arange(2))
    assert found.shape == (2, 3, 6, 8)
    assert np.array_equal(found, apply(project.preprocessing, images))
    with pytest.raises(
        CoopexportError, match=r"1\.png comes out of preprocessing.*\(3, 20, 30\).*preprocessing.resize"
    ):
        load_training_set(project_with(tmp_path, 'training = "t"'))


def test_images_are_scaled_to_cover_and_cropped_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((4, 20, 3), np.uint8)
    wide[:, 8:12] = 200  # a bar in the middle
    save(tmp_path / "t" / "a" / "wide.png", wide)
    save(tmp_path / "t" / "a" / "tall.png", wide.transpose(1, 0, 2).copy())
    dataset = load_dataset(project_with(tmp_path, 'evaluation = "t"\nimage_size = [8, 8]'), "evaluation")
    tall, broad = dataset.images
    assert dataset.images.shape == (2, 8, 8, 3)
    assert np.array_equal(tall.transpose(1, 0, 2), broad)
    assert (broad[4, :, 0] == broad[0, :, 0]).all()
    assert broad[0, 3:5].min() == 200  # 4 pixels of the bar are 8 at twice the size, cut to the middle 8 of 40
    assert read_image(tmp_path / "t" / "a" / "wide.png", (2, 10)).shape == (2, 10, 3)


def test_different_sizes_name_two_files_and_the_key(tmp_path: Path) -> None:
    save(tmp_path / "t" / "a" / "1.png", drawn(6, 8))
    save(tmp_path / "t" / "a" / "2.png", drawn(8, 6))
    with pytest.raises(CoopexportError) as caught:
        load_dataset(project_with(tmp_path, 'evaluation = "t"'), "evaluation")
    for word in ["1.png is 6x8", "2.png is 8x6", "data.image_size", "data.evaluation"]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "colour"), [("L", 7), ("RGBA", (1, 2, 3, 99)), ("P", 3), ("1", 1), ("CMYK", (9, 8, 7, 0))]
)
def test_other_kinds_of_images_become_rgb(tmp_path: Path, mode: str, colour: object) -> None:
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image = Image.new(mode, (5, 4), colour)  # type: ignore[arg-type]
    image.save(file)
    with Image.open(file) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert read_image(file, None).shape == (4, 5, 3)
    assert np.array_equal(read_image(file, None), expected)


def test_images_that_would_lose_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(CoopexportError, match=r"deep\.png has more than 8 bits"):
        read_image(tmp_path / "deep.png", None)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_files_that_are_no_images_are_named(tmp_path: Path, damage: str) -> None:
    save(tmp_path / "t" / "a" / "good.png", drawn(6, 8))
    bad = tmp_path / "t" / "b" / "bad.png"
    save(bad, drawn(60, 80))
    content = bad.read_bytes()
    bad.write_bytes({"truncated": content[: len(content) // 2], "text": b"not an image", "empty": b""}[damage])
    with pytest.raises(CoopexportError, match=r"bad\.png cannot be read as an image") as caught:
        load_dataset(project_with(tmp_path, 'evaluation = "t"'), "evaluation")
    assert "\n" not in str(caught.value)


def test_linked_classes_and_files_are_followed(tmp_path: Path) -> None:
    first = save(tmp_path / "elsewhere" / "1.png", drawn(6, 8))
    (tmp_path / "t" / "b").mkdir(parents=True)
    (tmp_path / "t" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "t" / "b" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    dataset = load_dataset(project_with(tmp_path, 'evaluation = "t"'), "evaluation")
    assert np.array_equal(dataset.images, [first, first])
    assert dataset.labels.tolist() == [0, 1]


def test_trees_that_do_not_fit(tree: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = tree
    (root / "empty").mkdir()
    with pytest.raises(CoopexportError, match=r"data.training: .*empty holds no images"):
        load_training_set(project_with(root, 'training = "empty"'))
    (root / "t" / "dog" / "puppies").mkdir()
    with pytest.raises(CoopexportError, match="puppies is a folder inside a class"):
        load_training_set(project_with(root, 'training = "t"'))


def test_classes_of_two_trees_must_be_the_same(tree: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = tree
    save(root / "e" / "dog" / "1.png", drawn(6, 8))
    project = project_with(root, 'training = "t"\nevaluation = "e"')
    with pytest.raises(CoopexportError, match=r"data.evaluation e and data.training t .*\(cat in one only\)"):
        load_dataset(project, "evaluation")
    (root / "e" / "cat").mkdir()
    assert load_dataset(project, "evaluation").labels.tolist() == [1]
