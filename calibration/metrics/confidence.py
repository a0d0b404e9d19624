"""How sure a metric is that was measured on some images: 95 % confidence intervals, and of differences in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

# 97.5 % of the standard normal distribution lie below.
Z = 1.959963984540054
_MIN_VALUES = 2


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion, `right` of `count`, both as fractions from 0 to 1.

    The score interval (Wilson 1927), which holds its level near 0 and 1, where the usual one collapses. Raises
    ValueError unless 0 <= right <= count and count > 0.
    """
    if not 0 <= right <= count or count == 0:
        raise ValueError(f"{right} of {count} is not a proportion")
    share, weight = right / count, Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    # Exact where rounding would leave 1e-17.
    return 0.0 if right == 0 else centre - half, 1.0 if right == count else centre + half


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of one value per image, by the normal approximation; None for one value."""
    if len(values) < _MIN_VALUES:
        return None
    mean, half = float(values.mean()), Z * float(values.std(ddof=1)) / sqrt(len(values))
    return mean - half, mean + half


def metric_interval(per_image: NDArray[np.float64] | None) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric: Wilson's where each image is 0 or 1, None for a metric that is one number.

    `per_image`: the metric of each image.
    """
    if per_image is None:
        return None
    if np.isin(per_image, (0.0, 1.0)).all():
        return wilson_interval(int(per_image.sum()), len(per_image))
    return mean_interval(per_image)


@dataclass(frozen=True)
class PairedDifference:
    """How much more of the same images one network has right than another: a fraction, and its 95 % interval."""

    difference: float
    low: float
    high: float
    only_reference_right: int
    only_this_right: int
    count: int


def paired_difference(only_reference_right: int, only_this_right: int, count: int) -> PairedDifference:
    """Return the difference of two proportions on the same `count` images, from those where the two disagree.

    The interval is Wald's with half an image added to each of the four cells (Agresti & Min 2005), which holds its
    level with few images that disagree; the difference is the plain one, this minus reference. Raises ValueError for
    counts that do not fit.
    """
    if min(only_reference_right, only_this_right) < 0 or not 0 < count >= only_reference_right + only_this_right:
        raise ValueError(f"{only_reference_right} and {only_this_right} are not counts of {count} images that disagree")
    lost, won, total = only_reference_right + 0.5, only_this_right + 0.5, count + 2
    centre = (won - lost) / total
    half = Z * sqrt(lost + won - (won - lost) ** 2 / total) / total
    return PairedDifference(
        (only_this_right - only_reference_right) / count,
        max(-1.0, centre - half),
        min(1.0, centre + half),
        only_reference_right,
        only_this_right,
        count,
    )


def compare_right(reference: NDArray[np.bool_], this: NDArray[np.bool_]) -> PairedDifference:
    """Return the paired difference of two networks that had these images right; raises ValueError for other lengths."""
    if reference.shape != this.shape:
        raise ValueError(f"{reference.shape} and {this.shape} are not results on the same images")
    return paired_difference(int((reference & ~this).sum()), int((this & ~reference).sum()), len(this))
