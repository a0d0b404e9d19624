"""Images in folders by class: folder/class_name/image.png."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from jetson.errors import CoopexportError, DamagedFileError, InputError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_MAX_THREADS = 16
T = TypeVar("T")


@dataclass(frozen=True)
class ImageFolder:
    """Image files and the numbers of their classes, in the order of the names.

    `size`: height and width that images are brought to, None to leave them as they are.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    size: tuple[int, int] | None

    def spread(self, count: int) -> ImageFolder:
        """Return `count` images from all over the tree (all, if there are fewer); the first ones are of one class."""
        if count >= len(self.files):
            return self
        chosen = [index * len(self.files) // count for index in range(count)]
        files = tuple(self.files[index] for index in chosen)
        return replace(self, files=files, labels=tuple(self.labels[index] for index in chosen))


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes in `folder`, sorted: its folders that are not hidden."""
    return tuple(sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")))


def list_images(folder: Path, name: str, key: str, size: tuple[int, int] | None) -> ImageFolder:
    """Return the images in `folder`/class/, listed only; links are followed, hidden files and other types left out.

    `key`: the setting that names the folder as `name`. Raises CoopexportError when there is no image, or a folder
    inside a class.
    """
    classes = class_names(folder)
    files: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        for file in sorted((folder / class_name).iterdir()):
            if file.name.startswith("."):
                continue
            if file.is_dir():
                raise InputError(
                    f"{key}: {file} is a folder inside a class", path=file, fix=f"put its images into {file.parent}"
                )
            if file.suffix.lower() in SUFFIXES:
                files.append(file)
                labels.append(label)
    if not files:
        raise InputError(
            f"{key}: {folder} holds no images as class_name/image ({', '.join(SUFFIXES)}), and no *.bin file of CIFAR",
            path=folder,
        )
    return ImageFolder(name, classes, tuple(files), tuple(labels), size)


def list_unlabelled(folder: Path, name: str, key: str, size: tuple[int, int] | None) -> ImageFolder:
    """Return all images below `folder`, listed only, all of one class without a name; hidden files are left out.

    `key`: the setting that names the folder as `name`. Raises InputError when there is none.
    """
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not found:
        raise InputError(f"{key}: {folder} holds no images ({', '.join(SUFFIXES)})", path=folder)
    return ImageFolder(name, ("",), tuple(found), (0,) * len(found), size)


def read_image(file: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return one image, height x width x 3, RGB; with `size` scaled until it covers it, and cropped at the centre.

    Rotations in the file's Exif data are not applied, as they are not elsewhere. Raises CoopexportError naming the
    file when it is not an image of 8 bits a channel.
    """
    try:
        with Image.open(file) as opened:
            if opened.mode == "F" or opened.mode.startswith("I"):
                raise InputError(f"{file} has more than 8 bits a channel", path=file, fix="convert it, or remove it")
            image = opened.convert("RGB")
    except CoopexportError:
        raise
    except Exception as error:
        raise DamagedFileError(
            f"{file} cannot be read as an image ({one_line(error)[:120]})", path=file, fix="repair it, or remove it"
        ) from error
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def each_image(images: ImageFolder, indices: Iterable[int], use: Callable[[int, NDArray[np.uint8]], T]) -> list[T]:
    """Return what `use` makes of the images with these numbers (its arguments: number and image), in this order.

    Several threads read and use them. Raises CoopexportError as `read_image` does, and whatever `use` raises.
    """

    def read_and_use(index: int) -> T:
        return use(index, read_image(images.files[index], images.size))

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(read_and_use, indices))


def read_all(images: ImageFolder, key: str) -> NDArray[np.uint8]:
    """Return all images as one array, count x height x width x 3.

    Raises CoopexportError, naming two files and data.image_size, when they differ in size.
    """
    first = read_image(images.files[0], images.size)
    stacked = np.empty((len(images.files), *first.shape), dtype=np.uint8)

    def store(index: int, image: NDArray[np.uint8]) -> None:
        if image.shape != first.shape:
            raise InputError(
                f"{key}: {images.files[0]} is {first.shape[0]}x{first.shape[1]} (height x width) and "
                f"{images.files[index]} is {image.shape[0]}x{image.shape[1]}",
                fix="set data.image_size = [height, width], to which all are scaled and cropped",
            )
        stacked[index] = image

    each_image(images, range(len(images.files)), store)
    return stacked
