"""Clip ranges: exact extremes, true percentiles, and a refusal where there is no range."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from onnx import TensorProto, helper

from calibration.ranges import clip_range
from calibration.ranges.clip_methods import ClipSettings
from jetson.errors import CoopexportError

FEATURES = 6


def calibrate(model, tensors, inputs, method="percentile", percentile=99.99, on_progress=None):
    """Return one range per tensor, as `clip_range.calibrate` does."""
    return clip_range.calibrate(model, tensors, inputs, ClipSettings(method, percentile), on_progress)


def network() -> onnx.ModelProto:
    """Return y = 2x with the inner tensors x - 1, ReLU(x - 1) and 0 x, all N x 6."""
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in CONSTANTS.items()]
    nodes = [
        helper.make_node("Sub", ["x", "one"], ["signed"]),
        helper.make_node("Relu", ["signed"], ["rectified"]),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Log", ["signed"], ["logarithm"]),
        helper.make_node("Mul", ["x", "two"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "features",
        [value("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [value("y", TensorProto.FLOAT, ["batch", FEATURES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


CONSTANTS = {"one": 1.0, "zero": 0.0, "two": 2.0}
NETWORK = network()
INPUTS = np.random.default_rng(0).standard_normal((300, FEATURES)).astype(np.float32)
# Values whose smallest differences float32 holds, so that nothing is constant by rounding.
values = st_numpy.arrays(
    np.float32,
    st.tuples(st.integers(2, 70), st.just(FEATURES)),
    elements=st.integers(-4000, 4000).map(lambda number: number / 64),
)


@given(values)
def test_minmax_is_exact(inputs: np.ndarray) -> None:
    signed = inputs - np.float32(1)
    if signed.min() == signed.max():
        return
    clip = calibrate(NETWORK, ["signed"], inputs, "minmax")["signed"]
    assert (
        (clip.low[0], clip.high[0]) == (clip.minimum[0], clip.maximum[0]) == (float(signed.min()), float(signed.max()))
    )
    assert (clip.method, clip.percentile, clip.samples) == ("minmax", None, len(inputs))


@given(values, st.floats(50.5, 100))
def test_percentiles_are_those_of_all_values(inputs: np.ndarray, percentile: float) -> None:
    signed = inputs - np.float32(1)
    if signed.min() == signed.max():
        return
    clip = calibrate(NETWORK, ["signed"], inputs, "percentile", percentile)["signed"]
    high, low = np.percentile(signed, percentile), np.percentile(signed, 100 - percentile)
    expected_low = low if signed.min() < 0 else signed.min()
    if high <= expected_low:
        assert (clip.low[0], clip.high[0]) == (clip.minimum[0], clip.maximum[0])
    else:
        assert clip.high[0] == pytest.approx(high, rel=1e-6, abs=1e-6)
        assert clip.low[0] == pytest.approx(expected_low, rel=1e-6, abs=1e-6)
    assert clip.minimum[0] <= clip.low[0] < clip.high[0] <= clip.maximum[0]
    assert (clip.minimum[0], clip.maximum[0]) == (float(signed.min()), float(signed.max()))
    assert (clip.method, clip.percentile) == ("percentile", percentile)


@given(values, st.floats(50.5, 100), st.sampled_from(["minmax", "percentile"]))
def test_features_behind_relu_keep_their_exact_zero(inputs: np.ndarray, percentile: float, method: str) -> None:
    rectified = np.maximum(inputs - np.float32(1), 0)
    rectified[0, 0] = 0  # at least one zero, as every real feature has
    inputs = inputs.copy()
    inputs[0, 0] = 0
    if rectified.max() == 0:
        return
    clip = calibrate(NETWORK, ["rectified"], inputs, method, percentile)["rectified"]
    assert clip.low[0] == 0.0
    assert 0 < clip.high[0] <= clip.maximum[0] == float(rectified.max())


def test_only_features_with_negative_values_are_clipped_from_below() -> None:
    """Rare as zero may be behind a ReLU: it stays exact. Where there are negative values both ends are clipped."""
    inputs = np.linspace(2, 20, 400 * FEATURES, dtype=np.float32).reshape(400, FEATURES)
    inputs[3, 4] = -1
    found = calibrate(NETWORK, ["signed", "rectified"], inputs, "percentile", 95.0)
    assert (found["rectified"].low[0], found["rectified"].minimum[0]) == (0.0, 0.0)
    assert found["signed"].low[0] == pytest.approx(np.percentile(inputs - 1, 5), rel=1e-6)
    assert found["signed"].minimum[0] == -2.0


@pytest.mark.parametrize("rare", [5.0, -5.0])
def test_a_feature_that_is_nearly_always_the_same_keeps_its_extremes(rare: float) -> None:
    """Both percentiles fall on the value that nearly all have: the range would be empty, or leave out the rest."""
    inputs = np.ones((400, FEATURES), np.float32)
    inputs[3, 4] = 1 + rare
    clip = calibrate(NETWORK, ["signed"], inputs, "percentile", 99.0)["signed"]
    assert (clip.low[0], clip.high[0]) == (min(rare, 0.0), max(rare, 0.0))


def test_several_tensors_in_one_pass_equal_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["signed", "rectified", "signed"]
    opened = []
    real = clip_range.open_session
    monkeypatch.setattr(
        clip_range, "open_session", lambda *given_, **more: opened.append(given_) or real(*given_, **more)
    )
    together = calibrate(NETWORK, names, INPUTS, "percentile", 99.0)
    assert len(opened) == 1
    assert list(together) == ["signed", "rectified"]
    for name in together:
        assert calibrate(NETWORK, [name], INPUTS, "percentile", 99.0)[name] == together[name]


def test_progress_counts_inputs() -> None:
    done: list[int] = []
    calibrate(NETWORK, ["signed"], INPUTS, on_progress=done.append)
    assert done == sorted(done)
    assert done[-1] == len(INPUTS)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_name(wrong: float) -> None:
    inputs = INPUTS.copy()
    inputs[250, 2] = wrong
    with pytest.raises(CoopexportError, match="tensor 'signed' holds NaN or infinity"):
        calibrate(NETWORK, ["signed"], inputs, "minmax")
    with pytest.raises(CoopexportError, match="tensor 'logarithm' holds NaN or infinity"):
        calibrate(NETWORK, ["rectified", "logarithm"], INPUTS)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_a_constant_tensor_is_refused_by_name(method: str) -> None:
    with pytest.raises(CoopexportError, match=r"tensor 'nothing' is -?0\.0 everywhere"):
        calibrate(NETWORK, ["signed", "nothing"], INPUTS, method)


@pytest.mark.parametrize("percentile", [50, 0, -1, 100.1, float("nan")])
def test_percentiles_that_make_no_sense_are_refused(percentile: float) -> None:
    with pytest.raises(CoopexportError, match="is not above 50 and at most 100"):
        calibrate(NETWORK, ["signed"], INPUTS, "percentile", percentile)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(CoopexportError, match='method "entropy" is unknown; use one of minmax, percentile, mse, kl'):
        calibrate(NETWORK, ["signed"], INPUTS, "entropy")


def test_a_tensor_that_is_not_there_is_refused() -> None:
    with pytest.raises(CoopexportError, match="nowhere"):
        calibrate(NETWORK, ["nowhere"], INPUTS)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_selections_are_small_even_and_own_their_memory(count: int, kept: int) -> None:
    everything = np.arange(count, dtype=np.float32)
    rows = clip_range._selection(np.stack([everything, everything]), kept)
    selection = rows[0]
    assert np.array_equal(rows[1], selection)
    assert 1 <= len(selection) <= max(1, kept)
    assert rows.base is None
    steps = np.unique(np.diff(selection))
    assert len(steps) <= 1


@pytest.mark.parametrize("kept", [100, 1000, 5000])
def test_selections_meet_every_column(kept: int) -> None:
    """A stride that divides a row's length would see one column alone, perhaps the padded border."""
    columns = np.tile(np.arange(32, dtype=np.float32), 8 * 16 * 32)
    (selection,) = clip_range._selection(columns[np.newaxis], kept)
    assert len(selection) > kept / 2
    assert set(selection) == set(range(32))


def test_few_values_of_many_give_nearly_the_same_percentile(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = np.random.default_rng(1).standard_normal((2000, FEATURES)).astype(np.float32)
    exact = calibrate(NETWORK, ["signed"], inputs, "percentile", 95.0)["signed"]
    monkeypatch.setattr(clip_range, "_KEPT_VALUES", 3000)
    fewer = calibrate(NETWORK, ["signed"], inputs, "percentile", 95.0)["signed"]
    assert (fewer.minimum[0], fewer.maximum[0]) == (exact.minimum[0], exact.maximum[0])
    assert fewer.high[0] == pytest.approx(exact.high[0], abs=0.15)
    assert fewer.low[0] == pytest.approx(exact.low[0], abs=0.15)
