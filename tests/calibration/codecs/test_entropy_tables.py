"""Symbol models: close to the source that made the symbols, no richer than the data support, right to the unit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.codecs import entropy_tables
from calibration.codecs.entropy_tables import (
    cross_entropy_bytes,
    fit_symbol_model,
    order_0_probabilities,
)
from jetson.errors import CoopexportError
from jetson.wire.contexts import contexts_of, cumulative_frequencies, predictions_and_activities
from jetson.wire.rans import plane_shape, rans_encode
from jetson.wire.symbol_model import FREQUENCY_TOTAL, SymbolModel, model_to_bytes


def information_bytes(model: SymbolModel, symbols: NDArray[np.uint8]) -> float:
    """Return the bytes of an ideal code for `symbols`, samples x channels x height x width, under `model`."""
    planes = symbols.reshape(plane_shape(symbols.shape))
    frequencies = np.diff(cumulative_frequencies(model))[contexts_of(planes, model), planes]
    return float(-np.log2(frequencies / FREQUENCY_TOTAL).sum() / 8)


def independent(samples: int, bits: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return samples x 4 x 10 x 12 symbols that know nothing of each other."""
    drawn = np.random.default_rng(seed).geometric(0.3, (samples, 4, 10, 12)) - 1
    return drawn.clip(max=(1 << bits) - 1).astype(np.uint8)


def smooth(samples: int, bits: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return samples x 4 x 10 x 12 symbols that are like their neighbours, about half of them zero."""
    values = np.random.default_rng(seed).normal(0, 1, (samples, 4, 12, 14))
    for axis in (2, 3):
        values = values + np.roll(values, 1, axis) + np.roll(values, 2, axis)
    scaled = values[:, :, 2:, 2:] / 9 * (1 << bits)
    return np.rint(scaled).clip(0, (1 << bits) - 1).astype(np.uint8)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("contexts", [False, True])
def test_a_model_is_close_to_ideal_on_other_data(bits: int, contexts: bool) -> None:
    model = fit_symbol_model(independent(60, bits), bits, contexts)
    other = independent(30, bits, seed=1)
    ideal = cross_entropy_bytes(order_0_probabilities(other, bits), other)
    assert ideal < information_bytes(model, other) < 1.005 * ideal


@pytest.mark.parametrize("bits", range(1, 9))
def test_symbols_that_know_nothing_of_each_other_need_one_context(bits: int) -> None:
    assert fit_symbol_model(independent(60, bits), bits, True).context_count == 1


def of_channels(samples: int, bits: int, scales: tuple[float, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Return samples x channels x 6 x 7 independent symbols, each channel as wide as its scale says."""
    values = np.abs(np.random.default_rng(seed).normal(0, 1, (samples, len(scales), 6, 7)))
    return (values * np.array(scales).reshape(-1, 1, 1) * (1 << bits)).clip(0, (1 << bits) - 1).astype(np.uint8)


@pytest.mark.parametrize("contexts", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_channels_that_differ_have_tables_of_their_own(bits: int, contexts: bool) -> None:
    scales = (0.02, 1.0, 0.3, 0.02, 0.1, 1.0)
    model = fit_symbol_model(of_channels(60, bits, scales), bits, contexts)
    other = of_channels(40, bits, scales, seed=1)
    ideal = sum(cross_entropy_bytes(order_0_probabilities(one, bits), one) for one in other.transpose(1, 0, 2, 3))
    assert information_bytes(model, other) < 1.02 * ideal + 20
    pooled = cross_entropy_bytes(order_0_probabilities(other, bits), other)
    assert information_bytes(model, other) < 0.9 * pooled
    assert len(model.channels) == 6
    assert model.channels[0] == model.channels[3] != model.channels[1] == model.channels[5]


def test_many_channels_share_tables_where_they_are_alike() -> None:
    scales = tuple(0.02 if channel % 3 else 0.5 for channel in range(90))
    model = fit_symbol_model(of_channels(12, 4, scales), 4, False)
    assert 2 <= len(model.tables) <= 4
    quiet = {int(model.channels[channel]) for channel in range(90) if channel % 3}
    assert not quiet & {int(model.channels[channel]) for channel in range(0, 90, 3)}


def test_channels_of_one_kind_share_one_table() -> None:
    model = fit_symbol_model(of_channels(60, 4, (0.3,) * 16), 4, False)
    assert len(model.tables) == 1
    assert model.channels.tolist() == [0]


@pytest.mark.parametrize(("bits", "share"), [(2, 0.8), (4, 0.87), (8, 0.94)])
def test_contexts_pay_where_neighbours_are_alike(bits: int, share: float) -> None:
    symbols, other = smooth(300, bits), smooth(20, bits, seed=1)
    with_contexts, order_0 = (fit_symbol_model(symbols, bits, contexts) for contexts in (True, False))
    assert with_contexts.context_count > 1
    assert information_bytes(with_contexts, other) < share * information_bytes(order_0, other)
    assert len(rans_encode(other, with_contexts)) <= 1.001 * information_bytes(with_contexts, other) + 8.01


def test_features_without_height_have_a_left_neighbour() -> None:
    symbols, other = smooth(300, 4).reshape(1200, 120), smooth(40, 4, seed=1).reshape(160, 120)
    model, order_0 = fit_symbol_model(symbols, 4, True), fit_symbol_model(symbols, 4, False)
    assert information_bytes(model, other) < 0.97 * information_bytes(order_0, other)
    activities = np.unique(predictions_and_activities(other.reshape(-1, 1, 120))[1])
    assert activities.max() == other.max(), "of the left neighbour alone"


def test_a_rare_context_is_drawn_towards_order_0() -> None:
    """One sight of a symbol in a context must not make it certain there."""
    symbols = smooth(40, 2)
    symbols[symbols == 3] = 2
    symbols[0, 0, 0, :2] = 3
    model = fit_symbol_model(symbols, 2, True)
    context = contexts_of(symbols.reshape(-1, 10, 12), model)[0, 0, 1]
    assert np.diff(cumulative_frequencies(model))[context].max() < 0.9 * FREQUENCY_TOTAL


def test_symbols_never_seen_can_be_sent() -> None:
    for contexts in (False, True):
        model = fit_symbol_model(np.zeros((4, 2, 3, 3), np.uint8), 8, contexts)
        assert min(table.frequencies.min() for table in model.tables) >= 1
        assert rans_encode(np.full((1, 2, 3, 3), 255, np.uint8), model)


def test_the_same_symbols_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = smooth(30, 4)
    data = model_to_bytes(fit_symbol_model(symbols, 4, True))
    bytes_of = information_bytes(fit_symbol_model(symbols, 4, True), symbols)
    monkeypatch.setattr(entropy_tables, "_BLOCK_SYMBOLS", 1000)
    assert model_to_bytes(fit_symbol_model(symbols, 4, True)) == data
    assert information_bytes(fit_symbol_model(symbols, 4, True), symbols) == pytest.approx(bytes_of, rel=1e-12)


def test_fewer_classes_are_taken_where_more_hardly_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = smooth(80, 4)
    exact = fit_symbol_model(symbols, 4, True).context_count
    monkeypatch.setattr(entropy_tables, "MIN_GAIN", 0.1)
    assert 1 < fit_symbol_model(symbols, 4, True).context_count < exact


def test_cross_entropy_is_minus_the_sum_of_logarithms() -> None:
    probabilities = np.array([0.5, 0.25, 0.125, 0.125])
    assert cross_entropy_bytes(probabilities, np.array([[0, 1], [2, 3]], np.uint8)) == 9 / 8


def test_information_counts_contexts_as_the_coder_does() -> None:
    symbols = smooth(20, 4)
    model = fit_symbol_model(symbols, 4, True)
    assert abs(len(rans_encode(symbols, model)) - information_bytes(model, symbols)) < 9


@given(
    weights=st.lists(st.floats(1e-9, 1), min_size=2, max_size=3),
)
@settings(deadline=None, max_examples=40)
def test_frequencies_are_the_best_that_there_are(weights: list[float]) -> None:
    """No other integers of this sum within two units code these probabilities shorter."""
    probabilities = np.array(weights) / sum(weights)
    (row,) = entropy_tables._frequencies(probabilities[np.newaxis])
    assert row.sum() == FREQUENCY_TOTAL
    assert row.min() >= 1

    def cost(frequencies: NDArray[np.int64]) -> float:
        return float(-(probabilities * np.log2(frequencies)).sum())

    for steps in itertools.product(range(-2, 3), repeat=len(row)):
        other = row + np.array(steps)
        if sum(steps) == 0 and other.min() >= 1:
            assert cost(row) <= cost(other) + 1e-12


@given(counts=st.lists(st.integers(0, 1000), min_size=2, max_size=256), group_count=st.integers(1, 64))
@settings(deadline=None, max_examples=200)
def test_groups_are_runs_of_symbols(counts: list[int], group_count: int) -> None:
    groups = entropy_tables._groups(np.array(counts), group_count)
    assert groups[0] == 0
    assert set(np.diff(groups)) <= {0, 1}
    assert groups[-1] == min(group_count, len(counts)) - 1, "as many as were asked for, where there are symbols"


@pytest.mark.parametrize(
    ("symbols", "bits", "contexts", "match"),
    [
        (np.zeros((1, 2, 3, 3), np.uint8), 4, True, "1 calibration sample; it needs at least 2"),
        (np.zeros((0, 2, 3, 3), np.uint8), 4, False, "not on 0 of uint8"),
        (np.zeros((2, 2, 3, 3), np.int32), 4, False, "not on 36 of int32"),
        (np.full((2, 3), 16, np.uint8), 4, False, "a calibration symbol is 16: it has more than the 4 bits"),
        (np.zeros((2, 3), np.uint8), 9, False, "symbols of 9 bits"),
        (np.zeros((2, 3), np.uint8), 0, False, "symbols of 0 bits"),
    ],
)
def test_what_cannot_be_fitted_is_refused(symbols: NDArray[np.uint8], bits: int, contexts: bool, match: str) -> None:
    with pytest.raises(CoopexportError, match=match):
        fit_symbol_model(symbols, bits, contexts)
