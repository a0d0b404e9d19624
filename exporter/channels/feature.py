"""What is known about one tensor of a network: which channel each of its elements belongs to, and which are constant.

Arrays that describe a tensor have its number of dimensions; a dimension along which nothing changes has size 1, so
that the channels of N x C x H x W are an array of 1 x C x 1 x 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.channels.classes import PINNED, Atoms

Constants = NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """One tensor of the full network.

    `atoms`: the channel that an element belongs to; `constants`: float64, its value where it is the same for every
    input, NaN where it is live. Both broadcast to `shape`.
    """

    shape: tuple[int, ...]
    atoms: Atoms
    constants: Constants

    def varies(self, dimension: int) -> bool:
        """Tell whether different indices of `dimension` are different channels."""
        return bool(self.atoms.shape[dimension] > 1)


def opaque(shape: tuple[int, ...]) -> Feature:
    """Return a live tensor whose channels must all stay."""
    ones = (1,) * len(shape)
    return Feature(shape, np.full(ones, PINNED, dtype=np.int64), np.full(ones, np.nan))


def live(shape: tuple[int, ...], atoms: Atoms) -> Feature:
    """Return a live tensor with the given channels."""
    return Feature(shape, atoms, np.full((1,) * len(shape), np.nan))


def along(dimension: int, ndim: int, values: NDArray[Any]) -> NDArray[Any]:
    """Return a vector as an array of `ndim` dimensions that varies along `dimension`."""
    shape = [1] * ndim
    shape[dimension] = len(values)
    return values.reshape(shape)


def compress(values: NDArray[Any]) -> NDArray[Any]:
    """Return `values` with size 1 in every dimension along which they do not change."""
    for dimension in range(values.ndim):
        first = values[(slice(None),) * dimension + (slice(0, 1),)]
        if values.shape[dimension] > 1 and values.size and _equal(values, first):
            values = first
    return values


def _equal(values: NDArray[Any], others: NDArray[Any]) -> bool:
    same = values == others
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(others)
    return bool(same.all())


def vector_along(feature: Feature, dimension: int) -> Atoms | None:
    """Return the atoms along `dimension`, or None when another dimension tells channels apart too."""
    if any(feature.varies(other) for other in range(len(feature.shape)) if other != dimension):
        return None
    return np.broadcast_to(feature.atoms.reshape(-1), (feature.shape[dimension],))


def constants_along(feature: Feature, dimension: int) -> Constants:
    """Return the constant of each index of `dimension`, NaN where it is live or not one and the same everywhere."""
    values = np.moveaxis(feature.constants, dimension, 0)
    values = values.reshape(values.shape[0], -1)
    uniform = np.where((values == values[:, :1]).all(axis=1), values[:, 0], np.nan)
    return np.broadcast_to(uniform, (feature.shape[dimension],))


def element_numbers(shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor of `shape` in which every element is its own flat index, float64 so that any operation runs."""
    return torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(shape)


def coordinates_of(numbers: NDArray[np.int64], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], ...]:
    """Return the index in every dimension of `shape` of the elements with the flat indices `numbers`, int64, C order.

    Not numpy.unravel_index: that of NumPy 2.4.6 is wrong for more than 8,192 numbers in an array whose last dimension
    has size 1.
    """
    return tuple(numbers // stride % size for stride, size in zip(_strides(shape), shape, strict=True))


def flat_numbers(coordinates: Sequence[NDArray[np.int64]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the flat indices of the elements at `coordinates`, one array per dimension of `shape`, broadcast, int64.

    Raises ValueError when a coordinate lies outside of `shape`.
    """
    numbers = np.zeros((), dtype=np.int64)
    for found, stride, size in zip(coordinates, _strides(shape), shape, strict=True):
        if found.size and not 0 <= found.min() <= found.max() < size:
            raise ValueError(f"there are elements {found.min()} to {found.max()} of a dimension of {size}")
        numbers = numbers + found * stride
    return numbers


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Return how many elements apart neighbours in each dimension are."""
    return [math.prod(shape[dimension + 1 :]) for dimension in range(len(shape))]


def moved(feature: Feature, positions: NDArray[np.int64]) -> Feature:
    """Return the tensor whose elements are the elements `positions` (flat indices) of `feature`."""
    atoms = compress(np.broadcast_to(feature.atoms, feature.shape).reshape(-1)[positions])
    if feature.constants.size == 1:
        constants = np.broadcast_to(feature.constants.reshape(-1), (1,) * positions.ndim)
    else:
        constants = compress(np.broadcast_to(feature.constants, feature.shape).reshape(-1)[positions])
    return Feature(tuple(positions.shape), atoms, constants)


def uniform(feature: Feature) -> Constants:
    """Return the constants that are the same at every position; the others as live."""
    constants = feature.constants
    for dimension in range(len(feature.shape)):
        if constants.shape[dimension] > 1 and not feature.varies(dimension):
            first = constants[(slice(None),) * dimension + (slice(0, 1),)]
            constants = np.where((constants == first).all(axis=dimension, keepdims=True), first, np.nan)
    return constants
