"""What a network is trained on and judged by: inputs and labels by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exporter.data.datasets import Dataset, SampleSource, check_input_shape, open_source, open_unlabelled
from exporter.data.image_folder import ImageFolder
from exporter.project.settings import Project
from exporter.training.lazy_sets import folder_set, sample_set
from jetson.errors import InputError
from jetson.runtime import preprocessing as preprocessing_steps
from jetson.runtime.preprocessing import Preprocessing

_BLOCK_IMAGES = 2048  # preprocessed at a time, so that what is in memory twice is small


class TrainingSet(Protocol):
    """Inputs as the network takes them, and labels; any of them at any time."""

    @property
    def name(self) -> str:
        """Return what messages call it."""

    @property
    def layout(self) -> str:
        """Return which of the inputs' dimensions are height and width: `NCHW` or `NHWC`."""

    def __len__(self) -> int:
        """Return how many samples there are."""

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the inputs of these samples, N x model.input_shape, preprocessed."""

    def labels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of these samples, N x ...; class numbers for cross entropy."""


@dataclass(frozen=True)
class _ArraySet:
    name: str
    images: NDArray[np.uint8]
    all_labels: NDArray[Any]
    preprocessing: Preprocessing

    @property
    def layout(self) -> str:
        return self.preprocessing.layout

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return preprocessing_steps.apply(self.preprocessing, self.images[indices]).astype(np.float32, copy=False)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return self.all_labels[indices]


@dataclass(frozen=True)
class _Part:
    whole: TrainingSet
    chosen: NDArray[np.int64]

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def layout(self) -> str:
        return self.whole.layout

    def __len__(self) -> int:
        return len(self.chosen)

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.whole.inputs(self.chosen[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return self.whole.labels(self.chosen[indices])


def training_set_of_arrays(
    name: str, images: NDArray[np.uint8], labels: NDArray[Any], preprocessing: Preprocessing
) -> TrainingSet:
    """Return `images` (N x height x width x 3, RGB, uint8) with `labels` (N x ...), preprocessed when asked for.

    Images are in memory once, as uint8, in the network's size: float32 inputs would take four times as much. Raises
    CoopexportError when the numbers of images and labels differ, or preprocessing refuses the images.
    """
    if len(images) != len(labels):
        raise InputError(f"{name}: {len(images)} images and {len(labels)} labels")
    sized = _sized(images, preprocessing)
    rest = preprocessing._replace(resize=None, crop=None)
    preprocessing_steps.apply(rest, sized[:1])  # refuses none, and what is not an image
    return _ArraySet(name, sized, np.asarray(labels), rest)


def _sized(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return `images` resized and cropped, the steps that would take long anew in every epoch."""
    if preprocessing.resize is None and preprocessing.crop is None:
        return images
    size_only = Preprocessing(
        layout="NHWC", resize=preprocessing.resize, interpolation=preprocessing.interpolation, crop=preprocessing.crop,
        input_dtype="uint8",
    )  # fmt: skip
    sized: NDArray[np.uint8] | None = None
    for start in range(0, max(1, len(images)), _BLOCK_IMAGES):
        block = preprocessing_steps.apply(size_only, images[start : start + _BLOCK_IMAGES])
        if sized is None:
            sized = np.empty((len(images), *block.shape[1:]), dtype=np.uint8)
        sized[start : start + len(block)] = block
    assert sized is not None  # `apply` refuses no images
    return sized


def load_training_set(project: Project) -> TrainingSet:
    """Return what the project names in data.training.

    Raises CoopexportError naming the setting when it is missing or malformed, and when its inputs are not of
    model.input_shape.
    """
    return _load(project, "training")


def part_of(data: TrainingSet, indices: NDArray[np.int64]) -> TrainingSet:
    """Return the samples of `data` with these numbers, in this order; a view, nothing is copied.

    Raises IndexError where there is no such sample.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    if chosen.ndim != 1 or (chosen.size and not 0 <= chosen.min() <= chosen.max() < len(data)):
        raise IndexError(f"there are samples 0 to {len(data) - 1}; asked for was {indices}")
    return _Part(data, chosen)


def with_validation(project: Project, data: TrainingSet) -> tuple[TrainingSet, TrainingSet]:
    """Return what to train on and what to judge training by; no sample is in both.

    The second is data.validation where that is set, and else the share training.validation_share of `data`, drawn
    with training.seed (at least one sample). Raises CoopexportError as `load_training_set` does, and when `data` is
    too small to be divided.
    """
    if project.settings.data.validation is not None:
        return data, _load(project, "validation")
    if len(data) < 2:
        raise InputError(f"{data.name}: {len(data)} sample cannot be divided", fix="set data.validation, or add some")
    settings = project.settings.training
    order = np.random.default_rng(settings.seed).permutation(len(data))
    judged = max(1, round(settings.validation_share * len(data)))
    return part_of(data, np.sort(order[judged:])), part_of(data, np.sort(order[:judged]))


def load_unlabelled(project: Project) -> TrainingSet:
    """Return what the project names in data.unlabelled, with 0 for every label; raises as `load_training_set`."""
    return _opened(project, open_unlabelled(project))


def load_validation(project: Project) -> TrainingSet:
    """Return what the project judges training by, as `with_validation` does."""
    if project.settings.data.validation is not None:
        return _load(project, "validation")
    return with_validation(project, load_training_set(project))[1]


def _load(project: Project, purpose: str) -> TrainingSet:
    return _opened(project, open_source(project, purpose))


def _opened(project: Project, source: Dataset | ImageFolder | SampleSource) -> TrainingSet:
    if isinstance(source, Dataset):
        data = training_set_of_arrays(source.name, source.images, source.labels, project.preprocessing)
        check_input_shape(project, data.inputs(np.zeros(1, dtype=np.int64)).shape[1:], source.name)
        return data
    shape = project.settings.model.input_shape
    if isinstance(source, ImageFolder):
        return folder_set(source, project.preprocessing, shape)
    return sample_set(source, project.preprocessing, shape)
