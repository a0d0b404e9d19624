"""Training sets: preprocessed as in deployment, divided without overlap, and known by their contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_training import PREPROCESSING, toy_images, toy_set

from exporter.project.settings import Project, load_project
from exporter.training import training_set
from exporter.training.training_set import load_training_set, part_of, training_set_of_arrays, with_validation
from jetson.errors import CoopexportError
from jetson.runtime import preprocessing
from jetson.runtime.preprocessing import Preprocessing

MODEL = '[model]\nfactory = "n:f"\ncheckpoint = "c"\ninput_shape = [3, 8, 8]\n'


def project_with(folder: Path, rest: str) -> Project:
    file = folder / "coopexport.toml"
    file.write_text('schema = "coopexport.project/1.0"\n' + MODEL + rest)
    return load_project(file)


def saved(folder: Path, name: str, count: int, seed: int = 0) -> None:
    images, labels = toy_images(count, seed)
    np.savez(folder / name, images=images, labels=labels)


@pytest.mark.parametrize(
    "declaration", [PREPROCESSING, Preprocessing(layout="NHWC", resize=5), Preprocessing(input_dtype="uint8")]
)
def test_inputs_are_preprocessed_as_in_deployment(monkeypatch: pytest.MonkeyPatch, declaration: Preprocessing) -> None:
    monkeypatch.setattr(training_set, "_BLOCK_IMAGES", 8)
    images, labels = toy_images(21)
    data = training_set_of_arrays("toy", images, labels, declaration)
    chosen = np.array([20, 3, 3, 8])
    assert len(data) == 21
    assert data.layout == declaration.layout
    assert data.inputs(chosen).dtype == np.float32
    assert np.array_equal(data.inputs(chosen), preprocessing.apply(declaration, images[chosen]))
    assert np.array_equal(data.labels(chosen), labels[chosen])


def test_parts_of_parts() -> None:
    whole = toy_set(10)
    part = part_of(part_of(whole, np.array([9, 7, 5, 3])), np.array([2, 0]))
    assert len(part) == 2
    assert np.array_equal(part.inputs(np.array([1, 0])), whole.inputs(np.array([9, 5])))
    assert np.array_equal(part.labels(np.array([1, 0])), whole.labels(np.array([9, 5])))
    for wrong in ([10], [-1]):
        with pytest.raises(IndexError):
            part_of(whole, np.array(wrong))


def test_loaded_from_the_project(tmp_path: Path) -> None:
    saved(tmp_path, "train.npz", 12)
    data = load_training_set(project_with(tmp_path, '[preprocessing]\nscale = 0.5\n[data]\ntraining = "train.npz"\n'))
    assert data.name == "train.npz"
    everything = np.arange(12)
    assert np.array_equal(data.inputs(everything), toy_images(12)[0].transpose(0, 3, 1, 2) * np.float32(0.5))


@pytest.mark.parametrize(("share", "judged"), [(0.1, 2), (0.5, 10), (0.001, 1)])
def test_a_share_is_kept_for_validation(tmp_path: Path, share: float, judged: int) -> None:
    data = toy_set(20)
    project = project_with(tmp_path, f"[training]\nvalidation_share = {share}\nseed = 3\n")
    trained, validation = with_validation(project, data)
    assert (len(trained), len(validation)) == (20 - judged, judged)
    samples = [part.inputs(np.arange(len(part))).tobytes() for part in (trained, validation)]
    size = data.inputs(np.arange(1)).nbytes
    rows = [content[start : start + size] for content in samples for start in range(0, len(content), size)]
    assert len(set(rows)) == 20
    again = with_validation(project, data)
    assert [part.inputs(np.arange(len(part))).tobytes() for part in again] == samples
    other = with_validation(project_with(tmp_path, f"[training]\nvalidation_share = {share}\nseed = 4\n"), data)
    assert other[1].inputs(np.arange(judged)).tobytes() != samples[1]


def test_validation_data_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path, "judge.npz", 7, seed=1)
    data = toy_set(20)
    trained, validation = with_validation(project_with(tmp_path, '[data]\nvalidation = "judge.npz"\n'), data)
    assert trained is data
    assert len(validation) == 7


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path, "train.npz", 5)
    with pytest.raises(CoopexportError, match=r"data.training is not set"):
        load_training_set(project_with(tmp_path, ""))
    with pytest.raises(CoopexportError, match=r"data.training: .*nowhere.npz is missing"):
        load_training_set(project_with(tmp_path, '[data]\ntraining = "nowhere.npz"\n'))
    with pytest.raises(CoopexportError, match=r"\(3, 4, 4\), model.input_shape is \(3, 8, 8\)"):
        load_training_set(project_with(tmp_path, '[preprocessing]\nresize = [4, 4]\n[data]\ntraining = "train.npz"\n'))
    with pytest.raises(CoopexportError, match="cannot be divided"):
        with_validation(project_with(tmp_path, ""), toy_set(1))
    with pytest.raises(CoopexportError, match="5 images and 4 labels"):
        training_set_of_arrays(
            "x", *(array[:count] for array, count in zip(toy_images(5), (5, 4), strict=True)), PREPROCESSING
        )
