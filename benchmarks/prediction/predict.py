"""Predict the cells of a latency table that were not measured, each with the error that such predictions make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from benchmarks.prediction.kernels import Kernel
from benchmarks.prediction.nnls import Floats
from benchmarks.prediction.regression import Fit, Measured, fit, leave_one_cut_out
from engines.building.build_items import WHOLE
from jetson.errors import InputError

# With fewer errors of its own kind of part, a prediction takes those of all parts.
_LEAST_ERRORS = 5
# Nine of ten errors lie between these quantiles.
_RANGE = (0.05, 0.95)
# A prediction that was a hundredth of the time or less says nothing of the upper end.
_LEAST_RATIO = 0.01


class CellKey(NamedTuple):
    """What names a cell. `part`: head, tail, whole, encode or decode; `layer`: the cut, or "whole"."""

    variant: str
    layer: str
    part: str
    precision: str
    batch: int


class MeasuredRow(Protocol):
    """A row of the latency table, as far as a prediction needs it; `p50_ms`: median time of a call."""

    @property
    def variant(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def part(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def p50_ms(self) -> float: ...


@dataclass(frozen=True)
class Cell:
    """A head, a tail or a whole network of a project: what it does, whether it was measured or not."""

    key: CellKey
    kernels: tuple[Kernel, ...]
    source_sha256: str


@dataclass(frozen=True)
class Prediction:
    """The predicted time of a call. It is never a measured one: `origin` says so wherever it goes.

    The errors are those of cuts that were measured, each predicted from the others: `error_share` and
    `worst_error_share`, median and largest, as shares of the measured time. `low_ms` to `high_ms`: where the time is
    when this prediction errs as nine of ten of those did. `cells`: how many measured cells it rests on. `beyond`: how
    many times more work of some kind it has than any of them; above 1 the errors do not speak for it. `codec`: of
    encode and decode, else empty.
    """

    key: CellKey
    ms: float
    low_ms: float
    high_ms: float
    error_share: float
    worst_error_share: float
    cells: int
    beyond: float
    source_sha256: str
    origin: Literal["predicted"] = "predicted"
    codec: str = ""

    def text(self) -> str:
        """Return time, range and errors in one line."""
        errors = f"error at measured cuts: median {self.error_share:.0%}, worst {self.worst_error_share:.0%}"
        more = f"; {self.beyond:.1f} times the work of any measured cell" if self.beyond > 1.0 else ""
        return f"{self.ms:.3f} ms predicted ({self.low_ms:.3f} to {self.high_ms:.3f}; {errors}{more})"


@dataclass(frozen=True)
class Predictions:
    """What could be predicted of the cells without a measurement; `refused`: why the others could not."""

    made: tuple[Prediction, ...]
    refused: Mapping[CellKey, str]


def predict(rows: Iterable[MeasuredRow], cells: Sequence[Cell]) -> Predictions:
    """Predict the time of each of `cells` that has none among `rows`.

    `rows`: of one target; those of other parts, and of no cell of the project, are passed over. Cells are predicted
    from those of their own precision and batch. Raises CoopexportError when a row's time is no positive number.
    """
    times_ms = times_of(rows)
    made: list[Prediction] = []
    refused: dict[CellKey, str] = {}
    for setting in dict.fromkeys((cell.key.precision, cell.key.batch) for cell in cells):
        alike = [cell for cell in cells if (cell.key.precision, cell.key.batch) == setting]
        measured = measured_cells(alike, times_ms)
        unknown = [cell for cell in alike if cell.key not in times_ms]
        try:
            model = fit(measured)
        except InputError as error:
            refused |= {cell.key: str(error) for cell in unknown}
            continue
        errors = leave_one_cut_out(measured)
        for cell in unknown:
            outcome = _predicted(cell, model, measured, errors)
            if isinstance(outcome, Prediction):
                made.append(outcome)
            else:
                refused[cell.key] = outcome
    return Predictions(tuple(made), refused)


def key_of(row: MeasuredRow) -> CellKey:
    """Return the cell that a row is of."""
    return CellKey(row.variant, row.layer, row.part, row.precision, row.batch)


def times_of(rows: Iterable[MeasuredRow]) -> dict[CellKey, float]:
    """Return the time of each row's cell; raises CoopexportError when one is no positive number."""
    return {key_of(row): checked_ms(row) for row in rows}


def measured_cells(cells: Iterable[Cell], times_ms: Mapping[CellKey, float]) -> list[Measured]:
    """Return the cells that have a time, for the regression."""
    return [
        Measured(cell.key.layer, cell.key.part, cell.kernels, times_ms[cell.key])
        for cell in cells
        if cell.key in times_ms
    ]


def _predicted(cell: Cell, model: Fit, measured: Sequence[Measured], errors: Floats) -> Prediction | str:
    """Return the prediction, or why there is none."""
    missing = model.missing(cell.kernels)
    if missing:
        return f"no measured cell has {' or '.join(_with_article(kind) for kind in missing)}"
    of_part = np.array([item.part == cell.key.part for item in measured])
    known = errors[np.isfinite(errors) & of_part]
    if len(known) < _LEAST_ERRORS:
        known = errors
    beyond = model.beyond(cell.kernels)
    return prediction_of(cell.key, model.ms(cell.kernels), known, len(measured), beyond, cell.source_sha256)


def prediction_of(
    key: CellKey, ms: float, errors: Floats, cells: int, beyond: float, source_sha256: str, codec: str = ""
) -> Prediction | str:
    """Return a prediction with what `errors` say of it, or why it is none.

    `errors`: predicted / measured - 1 of measured cells that were left out; NaN where one could not be predicted.
    """
    if ms <= 0.0:
        return "the measured cells do not tell what a call takes"
    known = errors[np.isfinite(errors)]
    if len(known) == 0:
        return "no measured cut can be predicted from the others, so the error is not known"
    sizes = np.abs(known)
    least, most = np.quantile(known, _RANGE)
    return Prediction(
        key,
        ms,
        ms / max(1.0 + float(most), 1.0),
        ms / max(min(1.0 + float(least), 1.0), _LEAST_RATIO),
        float(np.median(sizes)),
        float(sizes.max()),
        cells,
        beyond,
        source_sha256,
        codec=codec,
    )


def _with_article(kind: str) -> str:
    return kind if kind.startswith("movement") else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def checked_ms(row: MeasuredRow) -> float:
    """Return a row's time; raises CoopexportError when it is no positive number."""
    if not (math.isfinite(row.p50_ms) and row.p50_ms > 0):
        where = row.part if row.layer == WHOLE else f"{row.layer} {row.part}"
        raise InputError(f"the time of {row.variant} {where} is {row.p50_ms} ms: nothing can be predicted from that")
    return row.p50_ms
