"""What the neighbours of a symbol say: its context, and so the frequencies that it is coded with."""

from typing import NamedTuple, Tuple

import numpy as np

from jetson.wire.symbol_model import ACTIVITIES, SymbolModel


def cumulative_frequencies(model: SymbolModel) -> np.ndarray:
    """Return where each symbol's interval of [0, 2^15] begins and the last one ends.

    int64, contexts of all tables, one after the other, x (2^bits + 1), from 0 to 2^15.
    """
    frequencies = np.concatenate([table.frequencies for table in model.tables])
    cumulative = np.zeros((len(frequencies), (1 << model.bits) + 1), np.int64)
    np.cumsum(frequencies, axis=1, dtype=np.int64, out=cumulative[:, 1:])
    return cumulative


class ContextMap(NamedTuple):
    """Which row of `cumulative_frequencies` a symbol takes: of_prediction[t, p] + of_activity[t, a].

    For table t, prediction p and activity a. `of_prediction`: uint16, tables x 2^bits; `of_activity`: uint8,
    tables x 256; `context_counts`: contexts of each table.
    """

    of_prediction: np.ndarray
    of_activity: np.ndarray
    context_counts: Tuple[int, ...]


def context_map(model: SymbolModel) -> ContextMap:
    """Return which context a prediction and an activity say, in each table."""
    counts = tuple(table.context_count for table in model.tables)
    first = [sum(counts[:number]) for number in range(len(counts))]
    rows = [
        start + table.classes.astype(np.uint16) * table.activity_class_count
        for start, table in zip(first, model.tables)  # noqa: B905  strict= is of Python 3.10
    ]
    activities = np.stack([table.activity_classes for table in model.tables])
    return ContextMap(np.stack(rows).astype(np.uint16), activities, counts)


def tables_of_planes(model: SymbolModel, planes: int) -> np.ndarray:
    """Return the table of each plane, uint8: planes go channel by channel, sample by sample."""
    return np.resize(model.channels, planes)


def predictions_and_activities(symbols: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return what the neighbours of each of `symbols`, uint8 planes x height x width, say: two int16 arrays like it.

    Neighbours outside of the plane count as symbol 0.
    """
    planes, height, width = symbols.shape
    framed = np.zeros((planes, height + 1, width + 2), np.int16)
    framed[:, 1:, 1:-1] = symbols
    left, up = framed[:, 1:, :-2], framed[:, :-1, 1:-1]
    up_left, up_right = framed[:, :-1, :-2], framed[:, :-1, 2:]
    predictions = np.clip(left + up - up_left, np.minimum(left, up), np.maximum(left, up))
    activities = np.abs(left - up_left) + np.abs(up - up_left) + np.abs(up - up_right)
    return predictions, np.minimum(activities, ACTIVITIES - 1)


def contexts_of(symbols: np.ndarray, model: SymbolModel) -> np.ndarray:
    """Return the row of `cumulative_frequencies` for each of `symbols`, uint8 planes x height x width.

    intp, of the same shape.
    """
    predictions, activities = predictions_and_activities(symbols)
    of = context_map(model)
    tables = tables_of_planes(model, len(symbols)).reshape(-1, 1, 1)
    contexts: np.ndarray = of.of_prediction[tables, predictions].astype(np.intp) + of.of_activity[tables, activities]
    return contexts
