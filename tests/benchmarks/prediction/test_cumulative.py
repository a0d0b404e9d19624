"""Times up to each layer: as measured where a head ends there, never falling, whole at the end."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_cells import cells_of, drawn_chain, kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from benchmarks.prediction.cumulative import MeasuredHead, cumulative_errors, cumulative_times, isotonic
from benchmarks.prediction.regression import fit
from exporter.layers.candidates import Layer

CHAIN = drawn_chain(np.random.default_rng(4), 14)


def layers(count: int = len(CHAIN)) -> list[Layer]:
    return [
        Layer(f"layer{node}", "Conv", f"t{node}", None, (node + 1,), 4 * (node + 1), 0, 0, True, False)
        for node in range(count)
    ]


ENDS = {layer.name: node for node, layer in enumerate(layers())}
MODEL = fit(
    cells_of(
        CHAIN,
        lambda kernels: 0.02 + sum(2e-7 * item.macs + 1e-8 * item.moved_bytes + 0.002 for item in kernels),
    )
)


def head(node: int, ms: float, encoded_bytes: int = 0) -> MeasuredHead:
    encoding = (kernel("encoding", node, moved_bytes=encoded_bytes),) if encoded_bytes else ()
    return MeasuredHead((*CHAIN[: node + 1], *encoding), ms)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_isotonic_is_scikit_learns(values: list[float]) -> None:
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), np.array(values))
    np.testing.assert_allclose(isotonic(np.array(values)), expected, atol=1e-9)


def test_without_a_measurement_all_is_predicted() -> None:
    found = cumulative_times(layers(), ENDS, CHAIN, MODEL, {})
    assert {item.origin for item in found} == {"predicted"}
    for node, item in enumerate(found):
        assert item.ms == pytest.approx(MODEL.ms(CHAIN[: node + 1]))
    assert [item.feature_bytes for item in found] == [4 * (node + 1) for node in range(len(CHAIN))]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, len(CHAIN) - 1), st.floats(0.001, 10.0), max_size=8),
    st.one_of(st.none(), st.floats(0.001, 10.0)),
)
def test_time_never_falls_along_the_network(measured: dict[int, float], whole_ms: float | None) -> None:
    heads = {f"layer{node}": head(node, ms) for node, ms in measured.items()}
    shuffled = sorted(layers(), key=lambda layer: layer.name)
    found = cumulative_times(shuffled, ENDS, CHAIN, MODEL, heads, whole_ms)
    assert [item.layer for item in found] == list(ENDS)
    assert (np.diff([item.ms for item in found]) >= -1e-9).all()
    assert {item.layer for item in found if item.origin == "measured"} == set(heads)


def test_measured_layers_keep_their_times_and_others_lie_between() -> None:
    heads = {"layer3": head(3, 0.9), "layer8": head(8, 1.7)}
    found = {item.layer: item.ms for item in cumulative_times(layers(), ENDS, CHAIN, MODEL, heads, 2.5)}
    assert (found["layer3"], found["layer8"], found["layer13"]) == pytest.approx((0.9, 1.7, 2.5))
    predicted = [MODEL.ms(CHAIN[: node + 1]) for node in range(len(CHAIN))]
    share = (predicted[5] - predicted[3]) / (predicted[8] - predicted[3])
    assert found["layer5"] == pytest.approx(0.9 + share * 0.8)


def test_behind_the_last_measured_layer_time_grows_as_predicted() -> None:
    found = {item.layer: item.ms for item in cumulative_times(layers(), ENDS, CHAIN, MODEL, {"layer3": head(3, 0.9)})}
    more = MODEL.ms(CHAIN) - MODEL.ms(CHAIN[:4])
    assert found["layer13"] == pytest.approx(0.9 + more)


def test_what_encodes_at_the_cut_is_taken_off() -> None:
    encoding_ms = MODEL.ms([kernel("encoding", moved_bytes=10**5)]) - MODEL.ms([])
    assert encoding_ms > 0
    heads = {"layer6": head(6, 1.0, 10**5)}
    found = {item.layer: item.ms for item in cumulative_times(layers(), ENDS, CHAIN, MODEL, heads)}
    assert found["layer6"] == pytest.approx(1.0 - encoding_ms)


def test_an_error_is_what_is_predicted_between_the_other_layers() -> None:
    heads = {"layer3": head(3, 0.9), "layer5": head(5, 1.5, 10**5), "layer8": head(8, 1.7)}
    found = cumulative_errors(layers(), ENDS, CHAIN, MODEL, heads, 2.5, lambda name: MODEL)
    predicted = [MODEL.ms(CHAIN[: node + 1]) for node in range(len(CHAIN))]
    share = (predicted[5] - predicted[3]) / (predicted[8] - predicted[3])
    encoding_ms = MODEL.ms([kernel("encoding", moved_bytes=10**5)]) - MODEL.ms([])
    assert len(found) == 3
    assert found[1] == pytest.approx((0.9 + share * 0.8) / (1.5 - encoding_ms) - 1.0)
    some = cumulative_errors(layers(), ENDS, CHAIN, MODEL, heads, 2.5, lambda name: None if name == "layer5" else MODEL)
    assert some == (found[0], found[2])
