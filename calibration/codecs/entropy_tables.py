"""Symbol models fitted on calibration data: what static rANS codes a feature with.

Contexts are those of a lossless image coder (LOCO-I, Weinberger et al. 2000). It learns their statistics while coding;
a feature is too short for that, so they are counted offline here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.codecs.channel_groups import MIN_GAIN, group_channels
from jetson.errors import InputError
from jetson.wire.contexts import predictions_and_activities
from jetson.wire.rans import plane_shape
from jetson.wire.symbol_model import (
    ACTIVITIES,
    FREQUENCY_TOTAL,
    MAXIMUM_BITS,
    MAXIMUM_CONTEXTS,
    SymbolModel,
    model_of_channels,
    symbol_model,
)

# Numbers of classes that are tried, of predictions and of activities; those with more than symbols are left out.
CLASS_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
# Weights of the order-0 distribution in a context's counts, in symbols, that are tried.
SMOOTHING_SYMBOLS = (4.0, 16.0, 64.0, 256.0)
# Tables of a model, at most: each is shipped, held by the device, and has to stay in a cache.
_MAXIMUM_TABLES, _MAXIMUM_TABLES_WITH_CONTEXTS = 64, 8
# Every n-th sample judges what the others were counted on.
_HELD_OUT_EVERY = 4
# Predictions and activities are counted in at most so many groups each, of which classes are made.
_MAXIMUM_GROUPS = 64
# Symbols that are counted at once: bounds the temporaries to some tens of megabytes.
_BLOCK_SYMBOLS = 1 << 20


@dataclass(frozen=True)
class _Groups:
    """The group of each prediction (2^bits) and of each activity (256): runs of values, numbered from 0 on."""

    predictions: NDArray[np.int64]
    activities: NDArray[np.int64]


def fit_symbol_model(symbols: NDArray[np.uint8], bits: int, contexts: bool) -> SymbolModel:
    """Return the model of `symbols`: of order 0, or, with `contexts`, given the classes of what the neighbours say.

    `symbols`: uint8, samples x channels x height x width, or samples x features (then only the left neighbour says
    something), each below 2^bits. Channels have tables of their own, one by one or in groups, where a quarter of the
    samples is coded shorter by what the others say. So are, with contexts, the numbers of classes and the smoothing
    chosen. Then all samples are counted. Raises CoopexportError when there are no symbols, fewer than two samples for
    contexts, or a symbol is too large.
    """
    _check(symbols, bits)
    if contexts and len(symbols) < 2:
        raise InputError(
            f"a symbol model with contexts was asked for with {len(symbols)} calibration sample; it needs at least 2: "
            "raise data.calibration_samples, or use codec rans"
        )
    held_out = np.arange(len(symbols)) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    if not held_out.any():
        held_out[-1] = True
    fitted = [_fit(symbols, held_out, bits, False, 1), _fit(symbols, held_out, bits, False, _MAXIMUM_TABLES)]
    if contexts:
        fitted += [_fit(symbols, held_out, bits, True, most) for most in (1, _MAXIMUM_TABLES_WITH_CONTEXTS)]
    enough = (1 + MIN_GAIN) * min(one.held_out_bits for one in fitted)
    good = [one.model for one in fitted if one.held_out_bits <= enough]
    return min(good, key=lambda model: model.context_count)


def _fit(
    symbols: NDArray[np.uint8], held_out: NDArray[np.bool_], bits: int, contexts: bool, most_tables: int
) -> _Fitted:
    """Return the model of `symbols` with a table for each group of channels that are alike; see `_fit_table`."""
    groups = np.zeros(1, np.uint8)
    if symbols.ndim >= 4 and len(symbols) > 1 and most_tables > 1:
        groups = group_channels(symbols[~held_out], symbols[held_out], bits, most_tables)
    count = int(groups.max()) + 1
    if count == 1:
        return _fit_table(symbols, held_out, bits, contexts, MAXIMUM_CONTEXTS)
    tables = [
        _fit_table(symbols[:, groups == group], held_out, bits, contexts, MAXIMUM_CONTEXTS // count)
        for group in range(count)
    ]
    model = model_of_channels([table.model for table in tables], groups.tolist())
    return _Fitted(model, sum(table.held_out_bits for table in tables))


@dataclass(frozen=True)
class _Fitted:
    """A model, and the bits of the samples that were held out, coded by what the others say."""

    model: SymbolModel
    held_out_bits: float


def _fit_table(
    symbols: NDArray[np.uint8], held_out: NDArray[np.bool_], bits: int, contexts: bool, most_contexts: int
) -> _Fitted:
    """Return the table of `symbols`, as in `fit_symbol_model`; `held_out`: which samples judge."""
    if not contexts:
        seen, unseen = (np.bincount(symbols[which].ravel(), minlength=1 << bits) for which in (~held_out, held_out))
        cost = float(-(unseen * np.log2(_order_0(seen))).sum())
        return _Fitted(_order_0_model(seen + unseen, bits), cost)
    groups = _neighbour_groups(symbols, bits)
    counted, evaluated = _count(symbols[~held_out], bits, groups), _count(symbols[held_out], bits, groups)
    shape, smoothing, cost = _best_shape(counted, evaluated, most_contexts)
    total = counted + evaluated
    of_prediction, of_activity = (_groups(sums, count) for sums, count in zip(_margins(total), shape, strict=True))
    table = _merge(_cumulated(total), (_edges(of_prediction), _edges(of_activity)))
    model = symbol_model(
        bits,
        of_prediction[groups.predictions],
        _frequencies(_smoothed(table, smoothing)),
        of_activity[groups.activities],
    )
    return _Fitted(model, cost)


def order_0_probabilities(symbols: NDArray[np.uint8], bits: int) -> NDArray[np.float64]:
    """Return the probability of each of 2^bits symbols in `symbols`, uint8 of any shape, none of them zero.

    Raises CoopexportError when there are no symbols, or one is too large.
    """
    _check(symbols, bits)
    return _order_0(np.bincount(symbols.ravel(), minlength=1 << bits))


def cross_entropy_bytes(probabilities: NDArray[np.float64], symbols: NDArray[np.uint8]) -> float:
    """Return the bytes of an ideal code for `symbols`, uint8 of any shape, under static probabilities of order 0."""
    counts = np.bincount(symbols.ravel(), minlength=len(probabilities))
    return float(-(counts * np.log2(probabilities)).sum() / 8)


def _check(symbols: NDArray[np.uint8], bits: int) -> None:
    if not 1 <= bits <= MAXIMUM_BITS:
        raise InputError(f"symbols of {bits} bits were asked for; 1 to {MAXIMUM_BITS} can be modelled")
    if symbols.dtype != np.uint8 or symbols.size == 0:
        raise InputError(f"a symbol model is fitted on uint8 symbols, not on {symbols.size} of {symbols.dtype}")
    if int(symbols.max()) >> bits:
        raise InputError(f"a calibration symbol is {int(symbols.max())}: it has more than the {bits} bits specified")


def _blocks(planes: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    step = max(1, _BLOCK_SYMBOLS // max(1, planes[0].size))
    for start in range(0, len(planes), step):
        yield planes[start : start + step]


def _groups(counts: NDArray[np.int64], group_count: int) -> NDArray[np.int64]:
    """Return a group for each symbol, neighbours in value together, with about as many occurrences in each group."""
    groups = np.zeros(len(counts), np.int64)
    group, inside, remaining = 0, 0, int(counts.sum())
    for symbol, count in enumerate(counts.tolist()):
        groups[symbol] = group
        inside += count
        left = group_count - group
        if left > 1 and (inside * left >= remaining or len(counts) - symbol <= left) and symbol + 1 < len(counts):
            group, inside, remaining = group + 1, 0, remaining - inside
    return groups


def _neighbour_groups(symbols: NDArray[np.uint8], bits: int) -> _Groups:
    predictions, activities = np.zeros(1 << bits, np.int64), np.zeros(ACTIVITIES, np.int64)
    for block in _blocks(symbols.reshape(plane_shape(symbols.shape))):
        of_prediction, of_activity = predictions_and_activities(block)
        predictions += np.bincount(of_prediction.ravel(), minlength=1 << bits)
        activities += np.bincount(of_activity.ravel(), minlength=ACTIVITIES)
    return _Groups(_groups(predictions, _MAXIMUM_GROUPS), _groups(activities, _MAXIMUM_GROUPS))


def _count(symbols: NDArray[np.uint8], bits: int, groups: _Groups) -> NDArray[np.int64]:
    """Return how often each symbol follows each pair of groups: groups of predictions x of activities x 2^bits."""
    shape = (int(groups.predictions.max()) + 1, int(groups.activities.max()) + 1, 1 << bits)
    table = np.zeros(shape, np.int64)
    for block in _blocks(symbols.reshape(plane_shape(symbols.shape))):
        of_prediction, of_activity = predictions_and_activities(block)
        context = groups.predictions[of_prediction] * shape[1] + groups.activities[of_activity]
        table += np.bincount(((context << bits) | block).ravel(), minlength=table.size).reshape(shape)
    return table


def _best_shape(
    counted: NDArray[np.int64], evaluated: NDArray[np.int64], most_contexts: int
) -> tuple[tuple[int, int], float, float]:
    """Return numbers of classes and smoothing that code `evaluated` best, and in how many bits.

    Of those that are nearly as good, the fewest contexts; never more than `most_contexts`.
    """
    costs: dict[tuple[int, int], tuple[float, float]] = {}
    of_prediction, of_activity = (
        {count: _edges(_groups(sums, count)) for count in CLASS_COUNTS if count <= len(sums)}
        for sums in _margins(counted)
    )
    cumulated = _cumulated(counted), _cumulated(evaluated)
    for shape in itertools.product(of_prediction, of_activity):
        if shape[0] * shape[1] > most_contexts:
            continue
        seen, unseen = (_merge(table, (of_prediction[shape[0]], of_activity[shape[1]])) for table in cumulated)
        costs[shape] = min(
            (float(-(unseen * np.log2(_smoothed(seen, smoothing))).sum()), smoothing) for smoothing in SMOOTHING_SYMBOLS
        )
    least = (1 + MIN_GAIN) * min(cost for cost, _ in costs.values())
    chosen = min((shape for shape in costs if costs[shape][0] <= least), key=lambda shape: (shape[0] * shape[1], shape))
    cost, smoothing = costs[chosen]
    return chosen, smoothing, cost


def _margins(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how often each group of predictions occurs, and each of activities."""
    return table.sum(axis=(1, 2)), table.sum(axis=(0, 2))


def _edges(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at which group each class begins, and behind the last one where it ends, for the class of each group."""
    return np.searchsorted(classes, np.arange(classes[-1] + 2))


def _cumulated(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts of all groups before a pair: any rectangle of groups is then a difference of four entries.

    (The summed-area table of Crow 1984, for each symbol.)
    """
    return np.pad(table.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0), (0, 0)))


def _merge(cumulated: NDArray[np.int64], edges: tuple[NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the counts of contexts x symbols with groups merged to classes, which begin and end at `edges`."""
    merged = np.diff(np.diff(cumulated[np.ix_(*edges)], axis=0), axis=1)
    return merged.reshape(-1, cumulated.shape[2])


def _order_0(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities with half a symbol added to each count (Krichevsky and Trofimov 1981)."""
    probabilities: NDArray[np.float64] = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return probabilities


def _smoothed(table: NDArray[np.int64], smoothing: float) -> NDArray[np.float64]:
    """Return the probabilities of each context's symbols, drawn towards order 0 the more the rarer the context is."""
    weighted = table + smoothing * _order_0(table.sum(axis=0))
    probabilities: NDArray[np.float64] = weighted / weighted.sum(axis=1, keepdims=True)
    return probabilities


def _order_0_model(counts: NDArray[np.int64], bits: int) -> SymbolModel:
    return symbol_model(bits, np.zeros(1 << bits, np.uint8), _frequencies(_order_0(counts)[np.newaxis]))


def _frequencies(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return integers, each at least 1 and of sum 2^15 in each row, that cost the fewest bits above `probabilities`."""
    rows = np.maximum(1, np.rint(probabilities * FREQUENCY_TOTAL)).astype(np.int64)
    for probability, row in zip(probabilities, rows, strict=True):
        excess = int(row.sum()) - FREQUENCY_TOTAL
        for _ in range(abs(excess)):
            # The unit goes where, or comes from where, it changes the length of the code least or most.
            if excess > 0:
                loss = np.where(row > 1, probability * np.log2(row / np.maximum(row - 1, 1)), np.inf)
                row[loss.argmin()] -= 1
            else:
                row[(probability * np.log2((row + 1) / row)).argmax()] += 1
    return rows
