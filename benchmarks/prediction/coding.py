"""Predict how long messages take to encode and to decode at cuts where that was not measured.

What it takes depends on the data, of which a bundle says two numbers: how many symbols cross, and how many bytes become
of them. Two more come from the caches. An entropy coder looks frequencies up in a table for each context, and runs
right behind a half of the network, whose weights have pushed tables and code out of the cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.prediction.nnls import Floats, relative_least_squares
from benchmarks.prediction.predict import (
    CellKey,
    MeasuredRow,
    Prediction,
    Predictions,
    checked_ms,
    key_of,
    prediction_of,
)
from benchmarks.prediction.regression import LEAST_CUTS
from jetson.errors import InputError

# How much of the weights counts: no more than a cache holds. Which size fits best is found by trying.
_CACHE_BYTES = tuple(float(2**19 << step) for step in range(5))
COLUMNS = ("calls", "symbols", "bytes of the message", "contexts", "bytes of weights run before")
# With no more cells than columns: what a call takes, and symbols.
_FEW_COLUMNS = 2


@dataclass(frozen=True)
class CodingWork:
    """What is coded in one call. `contexts`: of all symbol models, each a table of frequencies.

    `weight_bytes`: of the half that runs right before on the same machine: the head before encoding, the tail of the
    image before decoding.
    """

    symbols: int
    payload_bytes: float
    contexts: int
    weight_bytes: int


@dataclass(frozen=True)
class CodingCell:
    """Encoding or decoding (`key.part`) at one cut by `codec`, whether it was measured or not."""

    key: CellKey
    codec: str
    work: CodingWork
    source_sha256: str


class CodingRow(MeasuredRow, Protocol):
    """A row of the latency table that says which codec it is of, and which run measured it."""

    @property
    def codec(self) -> str: ...
    @property
    def run(self) -> str: ...


class CodingKind(NamedTuple):
    """What is fitted by itself. `coder`: which entropy coder ran; empty for codecs without one."""

    part: str
    codec: str
    coder: str
    precision: str
    batch: int


@dataclass(frozen=True)
class MeasuredCoding:
    """A cell that was measured. `cut`: what it is left out by; `ms`: time of a call."""

    cut: str
    work: CodingWork
    ms: float


@dataclass(frozen=True)
class CodingFit:
    """Milliseconds per unit of each of `COLUMNS`, as far as they were fitted, and how much weight counts."""

    coefficients: Floats
    cache_bytes: float
    largest: Floats

    def ms(self, work: CodingWork) -> float:
        """Return the time of a call."""
        return float(self._row(work) @ self.coefficients)

    def beyond(self, work: CodingWork) -> float:
        """Return how many times more there is of some column than in any measured cell; at most 1 is within."""
        row, largest = self._row(work), self.largest
        return float(np.max(np.divide(row, largest, out=np.zeros_like(row), where=largest > 0)))

    def _row(self, work: CodingWork) -> Floats:
        row: Floats = _matrix([work], self.cache_bytes)[0, : len(self.coefficients)]
        return row


def predict_coding(
    rows: Iterable[CodingRow], cells: Sequence[CodingCell], coders: Mapping[str, str] | None = None
) -> Predictions:
    """Predict the time of each of `cells` that has none among `rows`.

    `rows`: of one target, measured on the graphs of `cells`; others are passed over. `coders`: by run which entropy
    coder it measured (C or plain Python: twenty times apart), the newest run last; a run that is not there has one of
    its own. A cell is predicted from those of its part, codec, precision and batch that the newest run's coder coded.
    Raises CoopexportError when a row's time is no positive number.
    """
    rows = list(rows)
    measured = measured_coding(rows, cells, coders)
    known = {(key_of(row), row.codec) for row in rows}
    made: list[Prediction] = []
    refused: dict[CellKey, str] = {}
    fitted: dict[CodingKind, tuple[CodingFit, Floats] | str] = {}
    for cell in cells:
        if (cell.key, cell.codec) in known:
            continue
        kind = _newest_kind(cell, measured)
        if kind not in fitted:
            fitted[kind] = _fitted(kind, measured.get(kind, ()))
        found = fitted[kind]
        if isinstance(found, str):
            refused[cell.key] = found
            continue
        model, errors = found
        outcome = prediction_of(
            cell.key, model.ms(cell.work), errors, len(errors), model.beyond(cell.work), cell.source_sha256, cell.codec
        )
        if isinstance(outcome, Prediction):
            made.append(outcome)
        else:
            refused[cell.key] = outcome
    return Predictions(tuple(made), refused)


def measured_coding(
    rows: Iterable[CodingRow], cells: Iterable[CodingCell], coders: Mapping[str, str] | None = None
) -> dict[CodingKind, list[MeasuredCoding]]:
    """Return the measured cells by what is fitted by itself, that of the newest run's coder last; as `predict_coding`.

    Of runs that nothing is known of, the one with the most cells is last.
    """
    coders = coders or {}
    works = {(cell.key, cell.codec): cell.work for cell in cells}
    rows = [row for row in rows if (key_of(row), row.codec) in works]
    sizes, newest = Counter(_kind(row, coders) for row in rows), {run: place for place, run in enumerate(coders)}
    rows.sort(key=lambda row: (newest.get(row.run, -1), sizes[_kind(row, coders)]))
    found: dict[CodingKind, list[MeasuredCoding]] = {}
    for row in rows:
        kind = _kind(row, coders)
        cell = MeasuredCoding(row.layer, works[key_of(row), row.codec], checked_ms(row))
        found[kind] = [*found.pop(kind, []), cell]
    return found


def fit_coding(cells: Sequence[MeasuredCoding]) -> CodingFit:
    """Fit times to work by non-negative least squares on the relative error; raises CoopexportError for too few."""
    cuts = len({cell.cut for cell in cells})
    count = _column_count(cells)
    least = max(count + 1, LEAST_CUTS)
    if cuts < LEAST_CUTS or len(cells) < least:
        raise InputError(
            f"too few times were measured to predict others from: {len(cells)} at {cuts} cut{'' if cuts == 1 else 's'}"
            f"; it takes {least} at {LEAST_CUTS} cuts",
            fix="measure more: coopexport split --layer NAME, then coopexport bench",
        )
    return _fit(cells, count)


def coding_errors(cells: Sequence[MeasuredCoding]) -> Floats:
    """Return for each cell predicted / measured - 1, predicted from the cells of all other cuts, float64."""
    count = _column_count(cells)
    errors = np.full(len(cells), np.nan)
    for cut in dict.fromkeys(cell.cut for cell in cells):
        model = _fit([cell for cell in cells if cell.cut != cut], count)
        for index, cell in enumerate(cells):
            if cell.cut == cut:
                errors[index] = model.ms(cell.work) / cell.ms - 1.0
    return errors


def _fitted(kind: CodingKind, cells: Sequence[MeasuredCoding]) -> tuple[CodingFit, Floats] | str:
    """Return the fit and its errors, or why there is none."""
    try:
        return fit_coding(cells), coding_errors(cells)
    except InputError as error:
        return f"{kind.part} {kind.codec}: {error}"


def _fit(cells: Sequence[MeasuredCoding], count: int) -> CodingFit:
    """Fit the first `count` columns, with the size of a cache that leaves the least error."""
    times_ms = np.array([cell.ms for cell in cells], dtype=np.float64)
    works = [cell.work for cell in cells]
    found = []
    for cache_bytes in _CACHE_BYTES if count == len(COLUMNS) else _CACHE_BYTES[:1]:
        matrix = _matrix(works, cache_bytes)[:, :count]
        coefficients = relative_least_squares(matrix, times_ms)
        left = float(np.square(matrix @ coefficients / times_ms - 1.0).sum())
        found.append((left, CodingFit(coefficients, cache_bytes, matrix.max(axis=0, initial=0.0))))
    return min(found, key=lambda item: item[0])[1]


def _column_count(cells: Sequence[MeasuredCoding]) -> int:
    """Return how many of `COLUMNS` measured cells can tell apart."""
    return len(COLUMNS) if len(cells) > len(COLUMNS) else _FEW_COLUMNS


def _matrix(works: Sequence[CodingWork], cache_bytes: float) -> Floats:
    """Return cells x `COLUMNS`, float64."""
    rows = [
        (1.0, item.symbols, item.payload_bytes, item.contexts, min(item.weight_bytes, cache_bytes)) for item in works
    ]
    return np.array(rows, dtype=np.float64).reshape(len(works), len(COLUMNS))


def _newest_kind(cell: CodingCell, measured: Mapping[CodingKind, object]) -> CodingKind:
    """Return what a cell is predicted from: of its kinds the last."""
    own = CodingKind(cell.key.part, cell.codec, "", cell.key.precision, cell.key.batch)
    alike = [kind for kind in measured if kind._replace(coder="") == own]
    return alike[-1] if alike else own


def _kind(row: CodingRow, coders: Mapping[str, str]) -> CodingKind:
    coder = coders.get(row.run, f"of run {row.run}") if "rans" in row.codec else ""
    return CodingKind(row.part, row.codec, coder, row.precision, row.batch)
