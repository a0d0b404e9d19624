"""Least squares with coefficients that are not negative: more work never takes less time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of the largest gradient: what is below is rounding.
_TOLERANCE = 1e-11


def non_negative_least_squares(matrix: Floats, wanted: Floats) -> Floats:
    """Return the x >= 0 that makes |matrix x - wanted| least.

    `matrix`: rows x columns, float64; `wanted`: rows, float64. The active set method of Lawson and Hanson (Solving
    Least Squares Problems, 1974, chapter 23). Columns are scaled to length 1 first, so that their units do not matter;
    a column of zeros gets the coefficient 0.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    scale = np.where(lengths > 0, lengths, 1.0)
    scaled = matrix / scale
    columns = scaled.shape[1]
    found = np.zeros(columns)
    free = np.zeros(columns, dtype=bool)
    gradient = scaled.T @ wanted
    bound = _TOLERANCE * max(float(np.abs(gradient).max(initial=0.0)), np.finfo(np.float64).tiny)
    for _ in range(3 * columns):  # their proof has no bound on the steps; more than columns are rare
        waiting = ~free & (gradient > bound) & (lengths > 0)
        if not waiting.any():
            break
        free[np.argmax(np.where(waiting, gradient, -np.inf))] = True
        found = _descend(scaled, wanted, found, free)
        gradient = scaled.T @ (wanted - scaled @ found)
    result: Floats = found / scale
    return result


def relative_least_squares(matrix: Floats, times: Floats) -> Floats:
    """Return the x >= 0 that makes the squares of matrix x / times - 1 least.

    `matrix`: rows x columns, `times`: rows, above 0; float64. Short times count as much as long ones.
    """
    return non_negative_least_squares(matrix / times[:, None], np.ones(len(times)))


def _descend(scaled: Floats, wanted: Floats, found: Floats, free: NDArray[np.bool_]) -> Floats:
    """Return the best solution on `free`, from which columns that would become negative are taken, in place."""
    while free.any():
        best = np.zeros_like(found)
        best[free] = np.linalg.lstsq(scaled[:, free], wanted, rcond=None)[0]
        if (best[free] > 0).all():
            return best
        falling = free & (best <= 0)
        steps = found[falling] / np.maximum(found[falling] - best[falling], np.finfo(np.float64).tiny)
        found = found + steps.min() * (best - found)
        free &= found > np.finfo(np.float64).eps
        found = np.where(free, found, 0.0)
    return np.zeros_like(found)
