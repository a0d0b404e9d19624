"""Images and labels to train, calibrate and evaluate with: npz files, or what the user's function returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.project import Project
from exporter.user_code import load_function
from jetson import preprocessing
from jetson.atomic_files import sha256_of_bytes
from jetson.errors import CoopexportError, one_line


@dataclass(frozen=True)
class Dataset:
    """Images as they arrive and what the metric compares outputs with.

    `images`: count x height x width x 3, RGB, uint8. `labels`: count x ...; class numbers for top-1.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[Any]

    def sha256(self) -> str:
        """Return the hash of images and labels."""
        parts = (np.ascontiguousarray(array) for array in (self.images, self.labels))
        return sha256_of_bytes(b"".join(str((part.dtype, part.shape)).encode() + part.tobytes() for part in parts))

    def first(self, count: int) -> Dataset:
        """Return the first `count` images (all, if there are fewer)."""
        return Dataset(self.name, self.images[:count], self.labels[:count])


def load_dataset(project: Project, purpose: str) -> Dataset:
    """Return the dataset that the project names for `purpose` (`training`, `validation`, `calibration`, `evaluation`).

    The setting is an npz file with arrays `images` and `labels`, or "package.module:function" that returns the
    two. Raises CoopexportError naming the setting when it is missing or malformed.
    """
    key = f"data.{purpose}"
    reference = getattr(project.settings.data, purpose)
    if reference is None:
        raise CoopexportError(f"{key} is not set in the project file; name an npz file or a package.module:function")
    if ":" in reference:
        function = load_function(reference, project.folder, key)
        try:
            loaded = function()
        except Exception as error:
            raise CoopexportError(f"{key} {reference} failed: {type(error).__name__}: {error}") from error
        if not isinstance(loaded, tuple) or len(loaded) != 2:
            raise CoopexportError(f"{key} {reference} must return (images, labels)")
        images, labels = (np.asarray(item) for item in loaded)
    else:
        images, labels = _read_npz(project.path(reference), key)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise CoopexportError(
            f"{key} {reference}: images are {images.dtype} of shape {images.shape}; expected is uint8, "
            "count x height x width x 3 (RGB)"
        )
    count = len(labels) if labels.ndim else 1
    if labels.dtype.hasobject or len(images) != count or count == 0:
        raise CoopexportError(f"{key} {reference}: {len(images)} images and {count} labels ({labels.dtype})")
    return Dataset(reference, images, labels)


def _read_npz(path: Path, key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["images"], content["labels"]
    except FileNotFoundError:
        raise CoopexportError(f"{key}: {path} is missing") from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  a .npy file, a damaged archive, arrays of objects
        raise CoopexportError(
            f"{key}: {path} is no npz file with arrays 'images' and 'labels' ({one_line(error)[:120]})"
        ) from None


def network_inputs(project: Project, dataset: Dataset) -> NDArray[np.float32]:
    """Return the dataset's images as the network takes them, N x input_shape.

    Raises CoopexportError when preprocessing yields another shape than model.input_shape.
    """
    inputs = preprocessing.apply(project.preprocessing, dataset.images)
    check_input_shape(project, inputs.shape[1:], dataset.name)
    return inputs.astype(np.float32, copy=False)


def check_input_shape(project: Project, shape: tuple[int, ...], origin: str) -> None:
    """Raise CoopexportError when inputs made from `origin` are not of model.input_shape."""
    expected = tuple(project.settings.model.input_shape)
    if tuple(shape) != expected:
        raise CoopexportError(
            f"images of {origin} come out of preprocessing with shape {tuple(shape)}, model.input_shape is {expected}: "
            "correct one of them"
        )
