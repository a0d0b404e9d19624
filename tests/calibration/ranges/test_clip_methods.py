"""Ranges by least squared error and least divergence: better than the extremes at what they minimise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.ranges.clip_methods import METHODS, ClipSettings
from calibration.ranges.clip_range import FeatureSample, clip_range
from exporter.encoding.specification import affine_specification, decode, encode

METHOD_NAMES = sorted(METHODS)


def sample_of(values: np.ndarray) -> FeatureSample:
    return FeatureSample("feature", values, values.min(axis=1), values.max(axis=1), 10)


def heavy_tailed(seed: int, channels: int = 1, rectified: bool = True) -> np.ndarray:
    """Return values of which a few are far away from all others, as features are."""
    generator = np.random.default_rng(seed)
    values = generator.laplace(size=(channels, 4000)) * generator.uniform(0.5, 1.5, (channels, 1))
    values[:, :4] = [[60, -60, 50, -50]]
    return (np.maximum(values, 0) if rectified else values).astype(np.float32)


def squared_error(values: np.ndarray, settings: ClipSettings) -> float:
    specification = affine_specification(clip_range(sample_of(values), settings), settings.bits)
    rows = values.T[:, :, np.newaxis]  # samples x channels x 1
    return float(np.mean((decode(specification, encode(specification, rows)) - rows) ** 2))


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 4, 8]), st.booleans())
def test_least_squared_error_is_least(seed: int, bits: int, rectified: bool) -> None:
    """But for the histogram's bins, no worse than any other method; the extremes may be the best there is."""
    values = heavy_tailed(seed, rectified=rectified)
    errors = {name: squared_error(values, ClipSettings(name, 99.0, "tensor", bits)) for name in METHOD_NAMES}
    assert errors["mse"] <= 1.1 * min(errors.values())


@pytest.mark.parametrize("bits", [2, 4])
def test_least_squared_error_clips_what_is_far_away_at_few_bits(bits: int) -> None:
    values = heavy_tailed(3, rectified=False)
    errors = {name: squared_error(values, ClipSettings(name, bits=bits)) for name in ("mse", "minmax")}
    assert errors["mse"] < 0.95 * errors["minmax"]


@given(st.integers(0, 10_000), st.integers(3, 4), st.booleans())
def test_divergence_clips_tails_and_keeps_what_is_common(seed: int, bits: int, rectified: bool) -> None:
    values = heavy_tailed(seed, rectified=rectified)
    found = clip_range(sample_of(values), ClipSettings("kl", bits=bits))
    assert np.percentile(values, 75) < found.high[0] < 0.9 * found.maximum[0]
    assert rectified or found.low[0] > 0.9 * found.minimum[0]
    assert found.bits == bits


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("rectified", [True, False])
def test_channels_are_treated_one_by_one(method, rectified: bool) -> None:
    values = heavy_tailed(3, channels=5, rectified=rectified)
    settings = ClipSettings(method, 99.0, "channel", 4)
    together = clip_range(sample_of(values), settings)
    assert together.granularity == "channel"
    for channel in range(5):
        alone = clip_range(sample_of(values[channel : channel + 1]), settings)
        assert alone.granularity == "tensor"
        assert together.low[channel] == pytest.approx(alone.low[0], rel=1e-12)
        assert together.high[channel] == pytest.approx(alone.high[0], rel=1e-12)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_what_ends_in_relu_keeps_its_zero(method) -> None:
    for bits in range(1, 9):
        found = clip_range(sample_of(heavy_tailed(bits)), ClipSettings(method, 99.0, "tensor", bits))
        assert found.low == (0.0,)
        assert 0 < found.high[0] <= found.maximum[0]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_dead_channel_keeps_its_value_and_disturbs_no_other(method) -> None:
    values = heavy_tailed(1, channels=3)
    values[1] = 0.75
    settings = ClipSettings(method, 99.0, "channel", 4)
    found = clip_range(sample_of(values), settings)
    assert (found.low[1], found.high[1]) == (0.75, 0.75)
    alone = clip_range(sample_of(values[2:]), settings)
    assert (found.low[2], found.high[2]) == pytest.approx((alone.low[0], alone.high[0]))
    specification = affine_specification(found, 4)
    rows = values.T[:, :, np.newaxis]
    assert (decode(specification, encode(specification, rows))[:, 1] == 0.75).all()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_one_range_for_all_channels_is_that_of_all_values(method) -> None:
    values = heavy_tailed(2, channels=4)
    settings = ClipSettings(method, 99.0, "tensor", 3)
    assert clip_range(sample_of(values), settings).high == clip_range(sample_of(values.reshape(1, -1)), settings).high
