"""The images as a device sends them to the edge, as they are or resized to the network's input, and what arrives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.codecs.input_coding import CodedPictures
from exporter.data.datasets import Dataset, network_inputs
from exporter.project.settings import Project
from jetson.runtime import preprocessing


@dataclass(frozen=True)
class SentImages:
    """What is sent of the images to calibrate and to measure with. `project`: with what is left of preprocessing."""

    project: Project
    calibration: Dataset
    evaluation: Dataset

    @cached_property
    def calibration_pictures(self) -> CodedPictures:
        """Return the images to calibrate with as picture codecs send them."""
        return CodedPictures(self.calibration.images)

    @cached_property
    def evaluation_pictures(self) -> CodedPictures:
        """Return the images to measure with as picture codecs send them."""
        return CodedPictures(self.evaluation.images)

    def inputs(self, data: Dataset, arrived: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the network takes of images of `data` that arrived, N x height x width x 3: N x input_shape."""
        return network_inputs(self.project, Dataset(data.name, arrived, data.labels))


def resized_images(sent: SentImages) -> SentImages | None:
    """Return the same images resized and cropped as preprocessing declares it; None where that makes none smaller.

    Raises CoopexportError when an image is too small to crop.
    """
    declaration = sent.project.preprocessing
    if not preprocessing.resizes(declaration):
        return None
    first = sent.evaluation.images[0]
    if preprocessing.resized(declaration, first).size >= first.size:
        return None
    left = dataclasses.replace(sent.project, preprocessing=preprocessing.after_resizing(declaration))
    return SentImages(left, _resized(sent.project, sent.calibration), _resized(sent.project, sent.evaluation))


def _resized(project: Project, data: Dataset) -> Dataset:
    images = np.stack([preprocessing.resized(project.preprocessing, image) for image in data.images])
    return Dataset(data.name, images, data.labels)
