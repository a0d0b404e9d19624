"""CIFAR-10 and CIFAR-100 in their published binary form: rows of labels and three planes of 32 x 32, no pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jetson.errors import DamagedFileError, InputError

_SIDE = 32
_IMAGE_BYTES = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class _Rows:
    """What stands before the image in a row: one byte for each of `classes`, the last of which is the label."""

    name: str
    classes: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return len(self.classes) + _IMAGE_BYTES


_CIFAR_10 = _Rows("CIFAR-10", (10,))
_CIFAR_100 = _Rows("CIFAR-100", (20, 100))  # coarse, fine
_CIFAR_100_FILES = ("train.bin", "test.bin")


def is_cifar(path: Path) -> bool:
    """Tell whether `path` is a file of such rows, or a folder of such files, by its names."""
    return path.suffix == ".bin" or (path.is_dir() and any(path.glob("*.bin")))


def read_cifar(path: Path, purpose: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (count x 32 x 32 x 3, RGB) and labels of a file, or of the files of a folder for `purpose`.

    Of a folder: `test_batch.bin` or `test.bin` for "evaluation", else `data_batch_*.bin` in the order of their names,
    or `train.bin`. Files called `train.bin` and `test.bin` are CIFAR-100's, whose label is the fine one. `count`: only
    so many of the first. The format is that of https://www.cs.toronto.edu/~kriz/cifar.html. Raises CoopexportError
    naming file and row when one is not of that form, and for validation from a folder, which has no file for it.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for file in _files(path, purpose) if path.is_dir() else (path,):
        left = None if count is None else count - sum(map(len, labels))
        if left == 0:
            break
        rows, kind = _read_rows(file, purpose, left)
        images.append(rows[:, len(kind.classes) :].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        labels.append(rows[:, len(kind.classes) - 1].astype(np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _files(folder: Path, purpose: str) -> list[Path]:
    if purpose == "validation":
        raise InputError(
            f"data.validation: CIFAR has no file for it in {folder}",
            path=folder,
            fix=(
                "leave it out, and a share of the training data is "
                "set apart, or name one file that data.training does not"
            ),
        )
    names = ("test_batch.bin", "test.bin") if purpose == "evaluation" else ("data_batch_*.bin", "train.bin")
    for name in names:
        files = sorted(folder.glob(name))
        if files:
            return files
    raise InputError(
        f"data.{purpose}: {folder} holds neither {names[0]} nor {names[1]}", path=folder, fix="name one of its files"
    )


def _read_rows(file: Path, purpose: str, count: int | None) -> tuple[NDArray[np.uint8], _Rows]:
    kind = _CIFAR_100 if file.name in _CIFAR_100_FILES else _CIFAR_10
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise InputError(f"data.{purpose}: {file} is missing", path=file) from None
    if size == 0 or size % kind.row_bytes:
        raise DamagedFileError(
            f"{file} has {size} bytes, which are not rows of {kind.row_bytes} ({kind.name}, binary version): it ends "
            f"inside row {size // kind.row_bytes}",
            path=file,
            fix="fetch it again",
        )
    rows = np.fromfile(file, dtype=np.uint8, count=-1 if count is None else count * kind.row_bytes)
    rows = rows.reshape(-1, kind.row_bytes)
    for column, classes in enumerate(kind.classes):
        wrong = np.flatnonzero(rows[:, column] >= classes)
        if wrong.size:
            raise DamagedFileError(
                f"{file}: row {wrong[0]} has label {rows[wrong[0], column]}, and {kind.name} has classes 0 to "
                f"{classes - 1}",
                path=file,
                fix="fetch the binary version again",
            )
    return rows, kind
