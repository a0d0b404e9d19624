"""The bound of accuracy: whether a loss of the metric is one that may be had."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

# Far below one image in a million: the difference of two means is not exact.
_TOLERANCE_POINTS = 1e-6


@overload
def keeps_bound(loss_points: float, maximum_loss_points: float) -> bool: ...
@overload
def keeps_bound(loss_points: NDArray[np.float64], maximum_loss_points: float) -> NDArray[np.bool_]: ...
def keeps_bound(
    loss_points: float | NDArray[np.float64], maximum_loss_points: float
) -> bool | NDArray[np.bool_]:  # fmt: skip
    """Tell whether a loss of the metric lies within a bound, both in points; NaN does not.

    Of an array, element by element.
    """
    return loss_points <= maximum_loss_points + _TOLERANCE_POINTS
