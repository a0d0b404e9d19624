"""Images and labels from npz files and functions; what does not fit is refused with both shapes."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.data.datasets import Dataset, load_dataset, network_inputs, open_unlabelled
from exporter.data.image_folder import ImageFolder
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError
from jetson.runtime import preprocessing

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(6) % 3


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def project_with(folder: Path, calibration: str = "", extra: str = "", input_shape: str = "[3, 8, 8]") -> Project:
    (folder / "coopexport.toml").write_text(
        f'schema = "coopexport.project/1.0"\n[model]\nfactory = "n:f"\ncheckpoint = "c"\ninput_shape = {input_shape}\n'
        + (f'[data]\ncalibration = "{calibration}"\n' if calibration else "")
        + extra
    )
    return load_project(folder / "coopexport.toml")


def refusal(project: Project) -> str:
    with pytest.raises(CoopexportError) as caught:
        load_dataset(project, "calibration")
    assert "data.calibration" in str(caught.value)
    return str(caught.value)


def test_npz(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", images=IMAGES, labels=LABELS, more=1)
    dataset = load_dataset(project_with(tmp_path, "data.npz"), "calibration")
    assert np.array_equal(dataset.images, IMAGES)
    assert np.array_equal(dataset.labels, LABELS)
    assert len(dataset.first(4).images) == len(dataset.first(4).labels) == 4
    assert len(dataset.first(100).images) == 6


def test_function(tmp_path: Path) -> None:
    (tmp_path / "cx_data.py").write_text(
        "import numpy as np\ndef load():\n    return np.zeros((2, 8, 8, 3), np.uint8), [0, 1]\n"
    )
    dataset = load_dataset(project_with(tmp_path, "cx_data:load"), "calibration")
    assert dataset.images.shape == (2, 8, 8, 3)
    assert dataset.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("return 3", ["(images, labels)"]),
        ("return np.zeros((2, 8, 8, 3), np.uint8), [0, 1], 2", ["(images, labels)"]),
        ("return np.zeros((2, 8, 8, 3), np.float32), [0, 1]", ["float32", "uint8"]),
        ("raise FileNotFoundError('disk.bin')", ["FileNotFoundError", "disk.bin"]),
    ],
)
def test_functions_that_return_something_else(tmp_path: Path, code: str, words: list[str]) -> None:
    (tmp_path / "cx_data.py").write_text(f"import numpy as np\ndef load():\n    {code}\n")
    message = refusal(project_with(tmp_path, "cx_data:load"))
    for word in ["cx_data:load", *words]:
        assert word in message


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, ["float32", "expected uint8"]),
        ({"images": IMAGES[..., 0], "labels": LABELS}, ["(6, 8, 8)", "count x height x width x 3"]),
        ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, ["(6, 3, 8, 8)"]),
        ({"images": IMAGES, "labels": LABELS[:5]}, ["6 images and 5 labels"]),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, ["0 images and 0 labels"]),
        ({"images": IMAGES, "labels": np.array(3)}, ["6 images and 1 labels"]),
        ({"images": IMAGES}, ["labels"]),
        ({"x": IMAGES, "y": LABELS}, ["images"]),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict, words: list[str]) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    message = refusal(project_with(tmp_path, "data.npz"))
    for word in ["data.npz", *words]:
        assert word in message


class Attack:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_pickles_in_an_npz_are_not_loaded(tmp_path: Path, name: str) -> None:
    proof = tmp_path / "proof"
    arrays = {"images": IMAGES, "labels": LABELS, name: np.array([Attack(proof)] * 6, dtype=object)}
    np.savez(tmp_path / "data.npz", **arrays)
    assert "allow_pickle=False" in refusal(project_with(tmp_path, "data.npz"))
    assert not proof.exists()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "npy", "flipped"])
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, images=IMAGES, labels=LABELS)
    content = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    elif damage == "flipped":
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("images.npy").header_offset + 200
        path.write_bytes(
            content[:start] + bytes(byte ^ 255 for byte in content[start : start + 50]) + content[start + 50 :]
        )
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\xff" * 99, "empty": b""}[damage])
    message = refusal(project_with(tmp_path, "data.npz"))
    assert "data.npz" in message
    assert "\n" not in message


def test_missing_files_and_settings(tmp_path: Path) -> None:
    assert "missing" in refusal(project_with(tmp_path, "nowhere.npz"))
    assert "not set" in refusal(project_with(tmp_path))


def test_images_without_labels(tmp_path: Path) -> None:
    project = project_with(tmp_path, "data.npz", 'unlabelled = "more.npz"\n')
    np.savez(tmp_path / "more.npz", images=IMAGES)
    found = open_unlabelled(project)
    assert isinstance(found, Dataset)
    assert np.array_equal(found.images, IMAGES)
    assert found.labels.tolist() == [0] * 6
    with pytest.raises(CoopexportError, match=r"data.unlabelled is not set"):
        open_unlabelled(project_with(tmp_path, "data.npz"))


def test_images_without_labels_lie_anywhere_in_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "deep/er/a.jpg", ".hidden/c.png", "notes.txt"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[0]).save(file) if file.suffix != ".txt" else file.write_text("no image")
    found = open_unlabelled(project_with(tmp_path, "data.npz", 'unlabelled = "images"\n'))
    assert isinstance(found, ImageFolder)
    assert [str(file.relative_to(tmp_path / "images")) for file in found.files] == ["b.png", "deep/er/a.jpg"]
    assert found.labels == (0, 0)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: (folder / "more").mkdir(), "holds no images"),
        (lambda folder: None, "more is missing"),
        (lambda folder: (folder / "more").write_bytes(b"PK"), "not an npz file with an array 'images'"),
    ],
)
def test_what_holds_no_images_is_refused(tmp_path: Path, write: Callable[[Path], object], words: str) -> None:
    project = project_with(tmp_path, "data.npz", 'unlabelled = "more"\n')
    write(tmp_path)
    with pytest.raises(CoopexportError, match=rf"data.unlabelled: .*{words}"):
        open_unlabelled(project)


def test_images_without_labels_of_a_function(tmp_path: Path) -> None:
    (tmp_path / "cx_more.py").write_text(
        "import numpy as np\nIMAGES = np.ones((2, 8, 8, 3), np.uint8)\n"
        "def alone():\n    return IMAGES\ndef both():\n    return IMAGES, [1, 1]\ndef fails():\n    raise KeyError(3)\n"
    )
    for name in ("alone", "both"):
        found = open_unlabelled(project_with(tmp_path, "data.npz", f'unlabelled = "cx_more:{name}"\n'))
        assert isinstance(found, Dataset)
        assert (found.images.shape, found.images.min(), found.labels.tolist()) == ((2, 8, 8, 3), 1, [0, 0])
    with pytest.raises(CoopexportError, match=r"data.unlabelled cx_more:fails failed: KeyError: 3"):
        open_unlabelled(project_with(tmp_path, "data.npz", 'unlabelled = "cx_more:fails"\n'))


def test_images_without_labels_have_the_form_of_images(tmp_path: Path) -> None:
    project = project_with(tmp_path, "data.npz", 'unlabelled = "more.npz"\n')
    np.savez(tmp_path / "more.npz", images=IMAGES[0])
    with pytest.raises(CoopexportError, match=r"data.unlabelled more.npz: images are uint8 of shape \(8, 8, 3\)"):
        open_unlabelled(project)
    np.savez(tmp_path / "more.npz", images=IMAGES[:0])
    with pytest.raises(CoopexportError, match=r"more\.npz: no images"):
        open_unlabelled(project)


def test_inputs_are_the_declared_preprocessing(tmp_path: Path) -> None:
    project = project_with(tmp_path, extra="[preprocessing]\nscale = 0.5\nmean = [1.0, 2.0, 3.0]\n")
    inputs = network_inputs(project, Dataset("d", IMAGES, LABELS))
    assert inputs.dtype == np.float32
    assert inputs.shape == (6, 3, 8, 8)
    assert np.array_equal(inputs, preprocessing.apply(project.preprocessing, IMAGES))
    assert inputs[2, 1, 3, 4] == np.float32(IMAGES[2, 3, 4, 1] * 0.5 - 2.0)


def test_a_network_that_normalises_by_itself_gets_pixel_values(tmp_path: Path) -> None:
    project = project_with(tmp_path, extra='[preprocessing]\ninput_dtype = "uint8"\n')
    inputs = network_inputs(project, Dataset("d", IMAGES, LABELS))
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs, IMAGES.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", ["[3, 9, 8]", "[8, 8, 3]", "[1, 8, 8]", "[192]"])
def test_another_input_shape_is_named_with_both(tmp_path: Path, shape: str) -> None:
    project = project_with(tmp_path, input_shape=shape)
    with pytest.raises(CoopexportError) as caught:
        network_inputs(project, Dataset("mine.npz", IMAGES, LABELS))
    for word in ["mine.npz", "(3, 8, 8)", str(tuple(project.settings.model.input_shape)), "model.input_shape"]:
        assert word in str(caught.value)
