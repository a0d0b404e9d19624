"""The demo's images: their form, their seed, and that held-out images share nothing with training images."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from benchmarks.demo import data as demo_data
from benchmarks.demo.data import (
    DataSplit,
    DemoData,
    Sources,
    compose,
    draw_images,
    load_sources,
    make_data,
    split_sources,
    write_npz,
)

GREY = 128


@pytest.fixture(scope="module")
def sources() -> Sources:
    return load_sources()


@pytest.fixture(scope="module")
def made() -> DemoData:
    return make_data(600, 100, seed=5)


def plain_sources(sources: Sources, inked: NDArray[np.bool_]) -> Sources:
    """Return one grey photograph and digits that are full of ink where `inked` says so, and empty elsewhere."""
    digits = np.zeros_like(sources.digits)
    digits[inked] = 1
    return Sources(digits, sources.labels, np.full((1, 100, 120, 3), GREY, dtype=np.uint8))


def shows_ink(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((images != GREY).any(axis=(1, 2, 3)))


def test_shapes_and_types(made: DemoData) -> None:
    for images, labels, count in (
        (made.train_images, made.train_labels, 600),
        (made.calibration_images, made.calibration_labels, 256),
        (made.evaluation_images, made.evaluation_labels, 100),
    ):
        assert images.shape == (count, 32, 32, 3)
        assert images.dtype == np.uint8
        assert labels.shape == (count,)
        assert labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(10))


def test_the_same_seed_gives_the_same_images(made: DemoData) -> None:
    again = make_data(600, 100, seed=5)
    other = make_data(600, 100, seed=6)
    for field in fields(DemoData):
        assert np.array_equal(getattr(made, field.name), getattr(again, field.name)), field.name
        assert not np.array_equal(getattr(made, field.name), getattr(other, field.name)), field.name


def test_the_number_of_training_images_changes_no_other_image(made: DemoData, sources: Sources) -> None:
    shorter = compose(sources, 40, 100, seed=5)
    assert np.array_equal(shorter.calibration_images, made.calibration_images)
    assert np.array_equal(shorter.evaluation_images, made.evaluation_images)
    assert np.array_equal(shorter.evaluation_labels, made.evaluation_labels)


def test_images_do_not_repeat(made: DemoData) -> None:
    everything = np.concatenate([made.train_images, made.calibration_images, made.evaluation_images])
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == len(everything)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_are_split_without_overlap_and_evenly_over_the_labels(sources: Sources, seed: int) -> None:
    training, held_out = split_sources(sources, seed)
    assert (len(training.digits), len(held_out.digits)) == (1300, 497)
    assert sorted([*training.digits, *held_out.digits]) == list(range(1797))
    expected = np.bincount(sources.labels) * 497 / 1797
    assert np.abs(np.bincount(sources.labels[held_out.digits]) - expected).max() < 1


def test_photographs_are_split_without_overlap(sources: Sources) -> None:
    training, held_out = split_sources(sources, 0)
    assert training.first_column == 0
    assert training.end_column == held_out.first_column
    assert held_out.end_column == sources.photos.shape[2]
    assert held_out.end_column - held_out.first_column > 3 * 32


def test_no_digit_is_both_in_training_and_in_held_out_images(sources: Sources) -> None:
    training, _ = split_sources(sources, 3)
    inked = np.isin(np.arange(len(sources.labels)), training.digits)
    made = compose(plain_sources(sources, inked), 600, 600, seed=3)
    assert shows_ink(made.train_images).all()
    assert shows_ink(made.calibration_images).all()
    assert not shows_ink(made.evaluation_images).any()


def test_no_part_of_a_photograph_is_both_in_training_and_in_held_out_images(sources: Sources) -> None:
    empty = plain_sources(sources, np.zeros(len(sources.labels), dtype=np.bool_))
    _, held_out = split_sources(empty, 3)
    empty.photos[:, :, held_out.first_column :] = 2 * GREY - 1
    made = compose(empty, 600, 600, seed=3)
    assert (made.train_images == GREY).all()
    assert (made.calibration_images == GREY).all()
    assert (made.evaluation_images == 2 * GREY - 1).all()


def test_patches_reach_every_border_of_their_part(sources: Sources) -> None:
    empty = plain_sources(sources, np.zeros(len(sources.labels), dtype=np.bool_))
    rows, columns = np.mgrid[0:100, 0:120]
    empty.photos[0, ..., 0] = rows
    empty.photos[0, ..., 1] = columns
    images, _ = draw_images(empty, DataSplit(np.arange(50), 40, 90), 4000, np.random.default_rng(0))
    assert (images[..., 0].min(), images[..., 0].max()) == (0, 99)
    assert (images[..., 1].min(), images[..., 1].max()) == (40, 89)


def test_labels_name_the_digit_in_the_image(sources: Sources) -> None:
    for label in (0, 3, 9):
        plain = plain_sources(sources, sources.labels == label)
        images, labels = draw_images(plain, DataSplit(np.arange(1797), 0, 120), 2500, np.random.default_rng(label))
        assert np.array_equal(shows_ink(images), labels == label)


def test_every_digit_is_used_equally_often(sources: Sources) -> None:
    data_split = DataSplit(np.arange(30, 130), 0, 120)
    _, labels = draw_images(sources, data_split, 300, np.random.default_rng(0))
    assert np.array_equal(np.bincount(labels), 3 * np.bincount(sources.labels[data_split.digits]))


@pytest.mark.parametrize("pixels", [32, 64])
def test_digits_are_upright_enlarged_and_inside_the_image(sources: Sources, pixels: int) -> None:
    smallest, largest = (share * pixels for share in demo_data.DIGIT_SHARE)
    plain = plain_sources(sources, np.zeros(len(sources.labels), dtype=np.bool_))
    plain.digits[:, 1, :] = 1  # a bar across the second of eight rows
    images, _ = draw_images(plain, DataSplit(np.arange(500), 0, 120), 500, np.random.default_rng(0), pixels)
    inked = (np.abs(images.astype(np.int64) - GREY).max(axis=-1) > 20).astype(np.int64)
    widths, heights = inked.any(axis=1).sum(axis=1), inked.any(axis=2).sum(axis=1)
    assert widths.min() >= smallest
    assert widths.max() > largest - 1
    assert np.unique(widths).size > 5
    assert heights.max() <= 2 * largest / 8
    middle = (inked.any(axis=2) * np.arange(pixels)).sum(axis=1) / heights
    assert pixels / 32 < middle.min() < middle.max() < pixels * 18 / 32


def test_digits_lie_around_the_middle_of_the_image_on_average(sources: Sources) -> None:
    plain = plain_sources(sources, np.ones(len(sources.labels), dtype=np.bool_))
    images, _ = draw_images(plain, DataSplit(np.arange(500), 0, 120), 500, np.random.default_rng(0))
    inked = np.abs(images.astype(np.int64) - GREY).max(axis=-1) > 20
    for axis in (1, 2):
        shown = inked.any(axis=axis)
        centres = (shown * (np.arange(32) + 0.5)).sum(axis=1) / shown.sum(axis=1)
        assert centres.mean() == pytest.approx(16, abs=0.5)
        assert centres.std() > 1


@pytest.mark.parametrize("brightness", [0, 60, 128, 200, 255])
def test_digits_stand_out_from_the_patch(sources: Sources, brightness: int) -> None:
    plain = plain_sources(sources, np.ones(len(sources.labels), dtype=np.bool_))
    plain.photos[:] = brightness
    images, _ = draw_images(plain, DataSplit(np.arange(500), 0, 120), 500, np.random.default_rng(0))
    # The middle of the image is in the digit wherever it lies.
    distances = np.linalg.norm(images[:, 16, 16].astype(np.float64) - brightness, axis=-1)
    assert distances.min() > 60
    assert len(np.unique(images[:, 16, 16], axis=0)) > 400


def test_the_photographs_keep_their_mean_and_lose_contrast(sources: Sources) -> None:
    original = np.stack(load_sample_images().images).astype(np.float64)
    used = sources.photos.astype(np.float64)
    assert used.shape == original.shape
    assert sources.photos.dtype == np.uint8
    assert np.abs(used.mean(axis=(1, 2)) - original.mean(axis=(1, 2))).max() < 0.5
    assert np.allclose(used.std(axis=(1, 2)), demo_data.PHOTO_CONTRAST * original.std(axis=(1, 2)), rtol=0.02)


def test_ink_goes_from_none_to_full(sources: Sources) -> None:
    assert sources.digits.shape == (1797, 8, 8)
    assert sources.digits.dtype == np.float32
    assert (sources.digits.min(), sources.digits.max()) == (0, 1)


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), (-1, 5)])
def test_counts_below_one_are_refused(sources: Sources, counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"at least 1, not -?\d and \d"):
        compose(sources, *counts, seed=0)


@pytest.mark.parametrize("pixels", [7, 257])
def test_sizes_that_the_photographs_cannot_fill_are_refused(sources: Sources, pixels: int) -> None:
    with pytest.raises(ValueError, match=f"8 to 256 pixels, not {pixels}"):
        compose(sources, 1, 1, seed=0, pixels=pixels)
    assert compose(sources, 1, 1, seed=0, pixels=256).train_images.shape == (1, 256, 256, 3)


def test_written_images_can_be_read_and_nothing_else_is_left(tmp_path: Path, made: DemoData) -> None:
    path = tmp_path / "folder" / "evaluation.npz"
    write_npz(path, made.evaluation_images, made.evaluation_labels)
    write_npz(path, made.evaluation_images[:7], made.evaluation_labels[:7])
    with np.load(path, allow_pickle=False) as content:
        assert sorted(content.files) == ["images", "labels"]
        assert np.array_equal(content["images"], made.evaluation_images[:7])
        assert np.array_equal(content["labels"], made.evaluation_labels[:7])
    assert [file.name for file in path.parent.iterdir()] == ["evaluation.npz"]


def test_mirrored_patches_show_the_photographs_both_ways(sources: Sources) -> None:
    empty = plain_sources(sources, np.zeros(len(sources.labels), dtype=np.bool_))
    rows, columns = np.mgrid[0:100, 0:120]
    empty.photos[0, ..., 0] = rows
    empty.photos[0, ..., 1] = columns
    data_split, count = DataSplit(np.arange(50), 0, 120), 400
    images, labels = draw_images(empty, data_split, count, np.random.default_rng(0), mirrored=True)
    steps = images[:, 1, 1, :2].astype(int) - images[:, 0, 0, :2].astype(int)
    assert set(map(tuple, steps.tolist())) == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert np.array_equal(labels, draw_images(empty, data_split, count, np.random.default_rng(0))[1])
