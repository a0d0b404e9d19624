"""The regression: time of a call from its work, and the error that it makes at cuts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.prediction.columns import Column, columns_for, matrix_of
from benchmarks.prediction.kernels import KINDS, Kernel, Kind
from benchmarks.prediction.nnls import Floats, relative_least_squares
from jetson.errors import InputError

# Each cut is left out once: two others have to remain to tell work from what every call takes.
LEAST_CUTS = 3


@dataclass(frozen=True)
class Measured:
    """A cell that was measured. `cut`: what it is left out by; `part`: head, tail or whole; `ms`: time of a call."""

    cut: str
    part: str
    kernels: tuple[Kernel, ...]
    ms: float


@dataclass(frozen=True)
class Fit:
    """Coefficients in milliseconds per unit of each column, and what they were fitted on.

    `kinds`: kinds of kernels that the cells have; `largest`: of each column, over the cells.
    """

    columns: tuple[Column, ...]
    coefficients: Floats
    kinds: frozenset[Kind]
    largest: Floats

    def ms(self, kernels: Sequence[Kernel]) -> float:
        """Return the time of a call that runs `kernels`, in milliseconds."""
        return float(self._row(kernels) @ self.coefficients)

    def missing(self, kernels: Sequence[Kernel]) -> tuple[Kind, ...]:
        """Return the kinds of `kernels` that no measured cell has: nothing is known of their time."""
        wanted = {kernel.kind for kernel in kernels}
        return tuple(kind for kind in KINDS if kind in wanted and kind not in self.kinds)

    def beyond(self, kernels: Sequence[Kernel]) -> float:
        """Return how many times more there is of some column than in any measured cell; at most 1 is within."""
        row, largest = self._row(kernels), self.largest
        return float(np.max(np.divide(row, largest, out=np.zeros_like(row), where=largest > 0)))

    def _row(self, kernels: Sequence[Kernel]) -> Floats:
        row: Floats = matrix_of(self.columns, [kernels])[0]
        return row


def fit(cells: Sequence[Measured], columns: Sequence[Column] | None = None) -> Fit:
    """Fit times to work by non-negative least squares on the relative error.

    `columns`: those that the cells can tell apart (`columns_for`) unless given. Raises CoopexportError when fewer than
    3 cuts (whole networks count as one), or no more cells than columns, were measured.
    """
    chosen = columns_for([cell.kernels for cell in cells]) if columns is None else tuple(columns)
    cuts = len({cell.cut for cell in cells})
    if cuts < LEAST_CUTS or len(cells) <= len(chosen):
        raise InputError(
            f"too few times were measured to predict others from: {len(cells)} of heads, tails and whole networks, at "
            f"{cuts} cut{'' if cuts == 1 else 's'}; it takes {max(len(chosen) + 1, LEAST_CUTS)} at {LEAST_CUTS} cuts",
            fix="measure more: coopexport split --layer NAME, then coopexport bench",
        )
    matrix = matrix_of(chosen, [cell.kernels for cell in cells])
    kinds = frozenset(kernel.kind for cell in cells for kernel in cell.kernels)
    return Fit(chosen, relative_least_squares(matrix, _times_ms(cells)), kinds, matrix.max(axis=0))


def leave_one_cut_out(cells: Sequence[Measured], columns: Sequence[Column] | None = None) -> Floats:
    """Return for each cell predicted / measured - 1, predicted from the cells of all other cuts, float64.

    All variants' cells of a cut are left out together: what a variant does at a cut says much of another there. NaN for
    a cell with a kind of kernel that no other cut has. `columns` as for `fit`.
    """
    chosen = columns_for([cell.kernels for cell in cells]) if columns is None else tuple(columns)
    matrix, times_ms = matrix_of(chosen, [cell.kernels for cell in cells]), _times_ms(cells)
    kinds = [frozenset(kernel.kind for kernel in cell.kernels) for cell in cells]
    errors = np.full(len(cells), np.nan)
    for cut in dict.fromkeys(cell.cut for cell in cells):
        left_out = np.array([cell.cut == cut for cell in cells])
        coefficients = relative_least_squares(matrix[~left_out], times_ms[~left_out])
        known = frozenset[Kind]().union(*(kinds[index] for index in np.flatnonzero(~left_out)))
        for index in np.flatnonzero(left_out):
            if kinds[index] <= known:
                errors[index] = matrix[index] @ coefficients / times_ms[index] - 1.0
    return errors


def _times_ms(cells: Sequence[Measured]) -> Floats:
    return np.array([cell.ms for cell in cells], dtype=np.float64)
