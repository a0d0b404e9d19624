"""The bound of accuracy: whether a loss of the metric is one that may be had."""

from __future__ import annotations

# Far below one image in a million: the difference of two means is not exact.
_TOLERANCE_POINTS = 1e-6


def keeps_bound(loss_points: float, maximum_loss_points: float) -> bool:
    """Tell whether a loss of the metric lies within a bound, both in points; NaN does not."""
    return loss_points <= maximum_loss_points + _TOLERANCE_POINTS
