"""Labelled images made from what scikit-learn ships: handwritten digits on photographs.

Each image is one of the 1797 handwritten 8x8 digits, enlarged and blended in one colour into a patch of
one of two photographs. Training and held-out images share neither digits nor parts of a photograph;
they do share the handwriting of some of the digits' authors, whom scikit-learn does not name.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split

from jetson.files.atomic_files import write_file

CALIBRATION_COUNT = 256
TRAINING_DIGITS = 1300
TRAINING_SHARE_OF_PHOTO = 0.6
DIGIT_SHARE = (0.625, 0.875)  # of the image that the enlarged 8x8 field is high and wide, least and most
OPACITY = (0.85, 1.0)
CANDIDATE_COLOURS = 8
PHOTO_CONTRAST = 0.5  # of the original: foliage at full contrast hides thin strokes from people, too
_BLOCK_PIXELS = 1 << 20  # bounds the float32 temporaries to some tens of megabytes


@dataclass(frozen=True)
class Sources:
    """What the images are made from.

    `digits`: D x 8 x 8 float32, ink from 0 to 1; `labels`: D int64, 0 to 9; `photos`: P x height x
    width x 3 uint8, RGB.
    """

    digits: NDArray[np.float32]
    labels: NDArray[np.int64]
    photos: NDArray[np.uint8]


@dataclass(frozen=True)
class DataSplit:
    """One side of the split: which digits (indices) and which columns of every photo it may use.

    Columns run from `first_column` up to, not including, `end_column`.
    """

    digits: NDArray[np.int64]
    first_column: int
    end_column: int


@dataclass(frozen=True)
class DemoData:
    """Images, N x pixels x pixels x 3 uint8 RGB, and their labels, N int64, for three uses.

    Calibration images are made from training digits and training regions, but are not training images.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    calibration_images: NDArray[np.uint8]
    calibration_labels: NDArray[np.int64]
    evaluation_images: NDArray[np.uint8]
    evaluation_labels: NDArray[np.int64]


def make_data(train_count: int, evaluation_count: int, seed: int, pixels: int = 32, mirrored: bool = False) -> DemoData:
    """Return `train_count` training, 256 calibration and `evaluation_count` held-out images of `pixels` x `pixels`.

    `mirrored`: patches of the photographs are turned left to right and upside down at random: two photographs hold few
    patches as large as half of them. The same arguments give the same images. Raises ValueError when a count is less
    than 1, or the photographs are too small for so many pixels.
    """
    return compose(load_sources(), train_count, evaluation_count, seed, pixels, mirrored)


def load_sources() -> Sources:
    """Return scikit-learn's digits and its photographs, these with their contrast reduced."""
    digits = load_digits()
    photos = np.stack(load_sample_images().images).astype(np.float32)
    grey = photos.mean(axis=(1, 2), keepdims=True, dtype=np.float64)  # float32 sums depend on their order
    return Sources(
        digits=(digits.images / 16.0).astype(np.float32),
        labels=digits.target.astype(np.int64),
        photos=np.rint(grey + PHOTO_CONTRAST * (photos - grey)).astype(np.uint8),
    )


def split_sources(sources: Sources, seed: int) -> tuple[DataSplit, DataSplit]:
    """Return the training and the held-out part: disjoint digits, stratified, and disjoint columns."""
    training, held_out = train_test_split(
        np.arange(len(sources.labels)),
        train_size=TRAINING_DIGITS,
        stratify=sources.labels,
        random_state=seed,
    )
    width = sources.photos.shape[2]
    border = round(TRAINING_SHARE_OF_PHOTO * width)
    return DataSplit(np.sort(training), 0, border), DataSplit(np.sort(held_out), border, width)


def compose(
    sources: Sources, train_count: int, evaluation_count: int, seed: int, pixels: int = 32, mirrored: bool = False
) -> DemoData:
    """Return the demo's data made from `sources`, as `make_data` does from scikit-learn's."""
    if train_count < 1 or evaluation_count < 1:
        raise ValueError(f"counts must be at least 1, not {train_count} and {evaluation_count}")
    training, held_out = split_sources(sources, seed)
    most_pixels = min(sources.photos.shape[1], *(one.end_column - one.first_column for one in (training, held_out)))
    if not 8 <= pixels <= most_pixels:
        raise ValueError(f"images must have 8 to {most_pixels} pixels, not {pixels}")
    # One stream for each use, so that changing one count leaves the images of the others as they were.
    streams = np.random.default_rng(seed).spawn(3)
    train_images, train_labels = draw_images(sources, training, train_count, streams[0], pixels, mirrored)
    calibration_images, calibration_labels = draw_images(
        sources, training, CALIBRATION_COUNT, streams[1], pixels, mirrored
    )
    evaluation_images, evaluation_labels = draw_images(
        sources, held_out, evaluation_count, streams[2], pixels, mirrored
    )
    return DemoData(
        train_images,
        train_labels,
        calibration_images,
        calibration_labels,
        evaluation_images,
        evaluation_labels,
    )


def draw_images(
    sources: Sources,
    data_split: DataSplit,
    count: int,
    generator: np.random.Generator,
    pixels: int = 32,
    mirrored: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` images, count x pixels x pixels x 3 uint8, made from `data_split`, and their labels, int64."""
    images = np.empty((count, pixels, pixels, 3), dtype=np.uint8)
    chosen = _take_evenly(data_split.digits, count, generator)
    block = max(1, _BLOCK_PIXELS // pixels**2)
    for start in range(0, count, block):
        digits = sources.digits[chosen[start : start + block]]
        patches = _cut_patches(sources.photos, data_split, len(digits), pixels, generator)
        if mirrored:
            for axis in (1, 2):
                turned = generator.random(len(patches)) < 0.5
                patches[turned] = np.flip(patches[turned], axis)
        images[start : start + len(digits)] = _paste(digits, patches, generator)
    return images, sources.labels[chosen]


def write_npz(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write arrays `images` and `labels` to an .npz at `path`, whole or not at all.

    Photographs compress by a quarter, which takes longer than to make them. Raises OSError.
    """
    buffer = BytesIO()
    np.savez(buffer, images=images, labels=labels)
    write_file(str(path), buffer.getvalue())


def _take_evenly(indices: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` of `indices` in random order, each as often as any other, give or take one."""
    rounds = -(-count // len(indices))
    taken = np.concatenate([generator.permutation(indices) for _ in range(rounds)])
    return taken[:count]


def _cut_patches(
    photos: NDArray[np.uint8], data_split: DataSplit, count: int, pixels: int, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return `count` random patches from the columns of `data_split`, count x pixels x pixels x 3 uint8."""
    photo = generator.integers(len(photos), size=count)
    top = generator.integers(photos.shape[1] - pixels + 1, size=count)
    left = generator.integers(data_split.first_column, data_split.end_column - pixels + 1, size=count)
    offsets = np.arange(pixels)
    rows = top[:, None] + offsets
    columns = left[:, None] + offsets
    patches: NDArray[np.uint8] = photos[photo[:, None, None], rows[:, :, None], columns[:, None, :]]
    return patches


def _paste(
    digits: NDArray[np.float32], patches: NDArray[np.uint8], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return `patches`, N x pixels x pixels x 3, with `digits`, N x 8 x 8, blended in at random."""
    count, pixels = patches.shape[:2]
    sides = generator.uniform(DIGIT_SHARE[0] * pixels, DIGIT_SHARE[1] * pixels, size=count)
    vertical, horizontal = (
        _enlarging_weights(sides, generator.uniform(0.0, pixels - sides), digits.shape[axis], pixels) for axis in (1, 2)
    )
    ink = vertical @ digits @ horizontal.transpose(0, 2, 1)
    opacity = generator.uniform(*OPACITY, size=(count, 1, 1)).astype(np.float32)
    share = (ink * opacity)[..., None]
    colours = _contrasting_colours(patches, generator)[:, None, None, :]
    blended = patches * (1 - share) + colours * share
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _enlarging_weights(
    sides: NDArray[np.float64], start: NDArray[np.float64], size: int, pixels: int
) -> NDArray[np.float32]:
    """Return N x `pixels` x `size` matrices that enlarge one axis to `sides`, beginning at `start`.

    Linear interpolation between the digit's pixels; outside the digit there is no ink.
    """
    centres = np.arange(pixels) + 0.5
    positions = (centres - start[:, None]) * size / sides[:, None] - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(positions[:, :, None] - np.arange(size)))
    return weights.astype(np.float32)


def _contrasting_colours(patches: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.float32]:
    """Return for each patch, of a few random colours, the one that stands out most, N x 3.

    What counts is the distance (Euclidean, RGB) to the nearest tenth of the patch's pixels: foliage is
    bright and dark at once, so its mean says nothing about what can be read on it.
    """
    count, pixels = patches.shape[:2]
    candidates = generator.integers(256, size=(count, CANDIDATE_COLOURS, 3)).astype(np.float32)
    apart = max(1, pixels // 8)  # 64 pixels are enough
    sparse = patches[:, apart // 2 :: apart, apart // 2 :: apart].reshape(count, 1, -1, 3).astype(np.float32)
    squares = np.square(candidates[:, :, None, :] - sparse).sum(axis=-1)
    tenth = squares.shape[-1] // 10
    nearest = np.partition(squares, tenth, axis=-1)[..., tenth]
    chosen: NDArray[np.float32] = candidates[np.arange(count), nearest.argmax(axis=1)]
    return chosen
