"""Training sets that are not in memory: images in folders, and samples of the user's own dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporter.data.datasets import SampleSource
from exporter.data.image_folder import ImageFolder, each_image
from jetson.errors import CoopexportError, InputError, one_line, reworded
from jetson.runtime import preprocessing as preprocessing_steps
from jetson.runtime.preprocessing import Preprocessing


@dataclass(frozen=True)
class FolderSet:
    """Images in folders, read and preprocessed when they are asked for, by several threads."""

    images: ImageFolder
    preprocessing: Preprocessing
    input_shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def layout(self) -> str:
        return self.preprocessing.layout

    def __len__(self) -> int:
        return len(self.images.files)

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack(each_image(self.images, indices.tolist(), self._input))

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self.images.labels[index] for index in indices], dtype=np.int64)

    def _input(self, index: int, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _preprocessed(image, self.preprocessing, self.input_shape, str(self.images.files[index]))


@dataclass(frozen=True)
class SampleSet:
    """Samples of a dataset of the user's, drawn when they are asked for.

    A sample gives image and label at once, and a random transform must not be applied twice: the labels of what
    `inputs` drew last are kept in `drawn`.
    """

    source: SampleSource
    preprocessing: Preprocessing
    input_shape: tuple[int, ...]
    drawn: dict[int, NDArray[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def layout(self) -> str:
        return self.preprocessing.layout

    def __len__(self) -> int:
        return len(self.source.samples)

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        self.drawn.clear()
        inputs = []
        for index in indices.tolist():
            image, label = self._sample(index)
            inputs.append(self._input(index, image))
            self.drawn[index] = np.asarray(label)
        return np.stack(inputs)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        labels = [self.drawn[index] if index in self.drawn else self._sample(index)[1] for index in indices.tolist()]
        return np.stack([np.asarray(label) for label in labels])

    def _sample(self, index: int) -> tuple[Any, Any]:
        try:
            sample = self.source.samples[index]
        except Exception as error:
            raise InputError(
                f"{self.name} failed at sample {index}: {type(error).__name__}: {one_line(error)[:160]}"
            ) from error
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            raise InputError(f"{self.name}: sample {index} is a {type(sample).__name__}, not (image, label)")
        return sample[0], sample[1]

    def _input(self, index: int, image: Any) -> NDArray[np.float32]:
        origin = f"{self.name}: sample {index}"
        array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            return _preprocessed(array, self.preprocessing, self.input_shape, origin)
        if array.dtype.kind == "f" and array.shape == self.input_shape:
            return array.astype(np.float32, copy=False)
        raise InputError(
            f"{origin} is {array.dtype} of shape {array.shape}",
            fix=(
                "give a PIL image or uint8 of height x width x 3, which "
                f"are preprocessed, or floats of model.input_shape {self.input_shape}, which are taken as they are"
            ),
        )


def folder_set(images: ImageFolder, preprocessing: Preprocessing, input_shape: tuple[int, ...]) -> FolderSet:
    """Return a training set of images that are read batch by batch.

    Raises CoopexportError when the first one does not become an input of `input_shape`; another one does so when it is
    asked for.
    """
    data = FolderSet(images, preprocessing, input_shape)
    data.inputs(np.zeros(1, dtype=np.int64))
    return data


def sample_set(source: SampleSource, preprocessing: Preprocessing, input_shape: tuple[int, ...]) -> SampleSet:
    """Return a training set of what `source.samples[index]` gives: an image and its label.

    Raises CoopexportError when there are none, or the first one is neither an image nor floats of `input_shape`;
    another one does so when it is asked for.
    """
    data = SampleSet(source, preprocessing, input_shape)
    if len(data) == 0:
        raise InputError(f"{source.name} returned no samples")
    data.inputs(np.zeros(1, dtype=np.int64))
    return data


def _preprocessed(
    image: NDArray[np.uint8], preprocessing: Preprocessing, input_shape: tuple[int, ...], origin: str
) -> NDArray[np.float32]:
    """Return one image as the network takes it; raises CoopexportError naming its `origin`."""
    try:
        preprocessed: NDArray[Any] = preprocessing_steps.apply(preprocessing, [image])[0]
    except CoopexportError as error:
        raise reworded(error, f"{origin}: {error}") from None
    if preprocessed.shape != input_shape:
        raise InputError(
            f"{origin} comes out of preprocessing with shape {preprocessed.shape}, model.input_shape is {input_shape}: "
            "declare preprocessing.resize and preprocessing.crop, or correct model.input_shape"
        )
    return preprocessed.astype(np.float32, copy=False)
