"""Images and labels to train, calibrate and evaluate with: from files, folders, or the user's function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.data.cifar import is_cifar, read_cifar
from exporter.data.image_folder import ImageFolder, class_names, list_images, list_unlabelled, read_all
from exporter.project.settings import Project
from exporter.project.user_code import load_function
from jetson.errors import DamagedFileError, InputError, one_line
from jetson.runtime import preprocessing

_PURPOSES = ("training", "validation", "calibration", "evaluation")


@dataclass(frozen=True)
class Dataset:
    """Images as they arrive and what the metric compares outputs with.

    `images`: count x height x width x 3, RGB, uint8. `labels`: count x ...; class numbers for top-1.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[Any]

    def first(self, count: int) -> Dataset:
        """Return the first `count` images (all, if there are fewer)."""
        return Dataset(self.name, self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class SampleSource:
    """What a user's function returns in the place of arrays: `samples[index]` is an image and its label."""

    name: str
    samples: Any


def load_dataset(project: Project, purpose: str) -> Dataset:
    """Return the dataset that the project names for `purpose` (`training`, `validation`, `calibration`, `evaluation`).

    The setting is an npz file with arrays `images` and `labels`, CIFAR's binary files, a folder of images by class, or
    "package.module:function" that returns images and labels. Of a folder only data.calibration_samples are read for
    calibration. Raises CoopexportError naming the setting when it is missing or malformed.
    """
    key = f"data.{purpose}"
    source = open_source(project, purpose)
    if isinstance(source, Dataset):
        return source
    if isinstance(source, SampleSource):
        raise InputError(f"{key} {source.name} must return (images, labels)")
    if purpose == "calibration":
        source = source.spread(project.settings.data.calibration_samples)
    return Dataset(source.name, read_all(source, key), np.array(source.labels, dtype=np.int64))


def open_source(project: Project, purpose: str) -> Dataset | ImageFolder | SampleSource:
    """Return what the project names for `purpose`: arrays, images that are listed only, or the user's own samples.

    Raises CoopexportError naming the setting when it is missing or malformed.
    """
    key = f"data.{purpose}"
    reference = getattr(project.settings.data, purpose)
    if reference is None:
        raise InputError(
            f"{key} is not set in the project file",
            fix="name an npz file, a folder of images, CIFAR's binary files or a package.module:function",
        )
    path = project.path(reference)
    if ":" in reference:
        loaded = _call(project, reference, key)
        if not isinstance(loaded, tuple):
            return SampleSource(reference, loaded)
        images, labels = (np.asarray(item) for item in loaded)
    elif is_cifar(path):
        count = project.settings.data.calibration_samples if purpose == "calibration" else None
        images, labels = read_cifar(path, purpose, count)
    elif path.is_dir():
        found = list_images(path, reference, key, project.settings.data.image_size)
        _check_classes(project, purpose, found)
        return found
    else:
        images, labels = _read_npz(path, key, ("images", "labels"))
    _check_images(images, f"{key} {reference}")
    count = len(labels) if labels.ndim else 1
    if labels.dtype.hasobject or len(images) != count or count == 0:
        raise InputError(f"{key} {reference}: {len(images)} images and {count} labels ({labels.dtype})")
    return Dataset(reference, images, labels)


def open_unlabelled(project: Project) -> Dataset | ImageFolder:
    """Return what the project names in data.unlabelled, with 0 for every label: an npz file, a folder, or a function.

    An npz file needs `images` only; the function returns them, with labels or without; a folder may hold them in
    whatever folders. Raises CoopexportError naming the setting when it is missing or malformed.
    """
    key, reference = "data.unlabelled", project.settings.data.unlabelled
    if reference is None:
        raise InputError(f"{key} is not set in the project file", fix="name an npz file or a folder of images")
    path = project.path(reference)
    if ":" in reference:
        returned = _returned(project, reference, key)
        images = np.asarray(returned[0] if isinstance(returned, tuple) else returned)
    elif path.is_dir():
        return list_unlabelled(path, reference, key, project.settings.data.image_size)
    else:
        (images,) = _read_npz(path, key, ("images",))
    _check_images(images, f"{key} {reference}")
    if len(images) == 0:
        raise InputError(f"{key} {reference}: no images")
    return Dataset(reference, images, np.zeros(len(images), dtype=np.int64))


def _check_images(images: NDArray[Any], where: str) -> None:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise InputError(
            f"{where}: images are {images.dtype} of shape {images.shape}; expected uint8, "
            "count x height x width x 3 (RGB)"
        )


def _returned(project: Project, reference: str, key: str) -> Any:
    function = load_function(reference, project.folder, key)
    try:
        return function()
    except Exception as error:
        raise InputError(f"{key} {reference} failed: {type(error).__name__}: {error}") from error


def _call(project: Project, reference: str, key: str) -> Any:
    """Return what the user's function returns: a pair of images and labels, or something with samples by number."""
    loaded = _returned(project, reference, key)
    has_samples = hasattr(loaded, "__len__") and hasattr(loaded, "__getitem__")
    if (isinstance(loaded, tuple) and len(loaded) != 2) or not has_samples:
        raise InputError(
            f"{key} {reference} must return (images, labels), or, to train, something with __len__ and __getitem__"
        )
    return loaded


def _check_classes(project: Project, purpose: str, images: ImageFolder) -> None:
    """Raise InputError when another folder of images has other classes: labels are places among their names."""
    for other in _PURPOSES:
        reference = getattr(project.settings.data, other)
        if other == purpose or reference is None or ":" in reference:
            continue
        path = project.path(reference)
        if not path.is_dir() or is_cifar(path):
            continue
        different = sorted(set(images.classes) ^ set(class_names(path)))
        if different:
            raise InputError(
                f"data.{purpose} {images.name} and data.{other} {reference} do not have the same classes "
                f"({', '.join(different[:3])} in one only), so that their labels differ",
                fix="add what is missing, if empty",
            )


def _read_npz(path: Path, key: str, names: Sequence[str]) -> tuple[NDArray[Any], ...]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return tuple(content[name] for name in names)
    except FileNotFoundError:
        raise InputError(f"{key}: {path} is missing", path=path) from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  a .npy file, a damaged archive, arrays of objects
        listed = "arrays 'images' and 'labels'" if "labels" in names else "an array 'images'"
        raise DamagedFileError(
            f"{key}: {path} is not an npz file with {listed} ({one_line(error)[:120]})", path=path
        ) from None


def network_inputs(project: Project, dataset: Dataset) -> NDArray[np.float32]:
    """Return the dataset's images as the network takes them, N x input_shape.

    Raises CoopexportError when preprocessing yields another shape than model.input_shape.
    """
    inputs = preprocessing.apply(project.preprocessing, dataset.images)
    check_input_shape(project, inputs.shape[1:], dataset.name)
    return inputs.astype(np.float32, copy=False)


def check_input_shape(project: Project, shape: tuple[int, ...], origin: str) -> None:
    """Raise InputError when inputs made from `origin` are not of model.input_shape."""
    expected = tuple(project.settings.model.input_shape)
    if tuple(shape) != expected:
        raise InputError(
            f"images of {origin} come out of preprocessing with shape {tuple(shape)}, model.input_shape is {expected}: "
            "correct one of them"
        )
