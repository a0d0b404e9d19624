"""Summaries: what NumPy says, and nothing that the number of samples cannot support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.statistics import summarise

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=900)


@given(samples)
def test_summaries_are_numpys(values: list[float]) -> None:
    found = summarise(values)
    assert found.count == len(values)
    assert found.p50_ms == np.percentile(values, 50)
    assert found.mean_ms == pytest.approx(np.mean(values))
    assert (found.p50_low_ms is None) == (found.p50_high_ms is None) == (len(values) < 8)
    assert (found.p90_ms is None) == (len(values) < 64)
    assert (found.p99_ms is None) == (len(values) < 662)
    if found.p50_low_ms is not None and found.p50_high_ms is not None:
        assert min(values) <= found.p50_low_ms <= found.p50_ms <= found.p50_high_ms <= max(values)
    if found.p90_ms is not None:
        assert np.percentile(values, 90) <= found.p90_ms <= max(values)
    if found.p99_ms is not None and found.p90_ms is not None:
        assert np.percentile(values, 99) <= found.p99_ms
        assert found.p90_ms <= found.p99_ms <= max(values)
    assert found.cv >= 0
    if np.mean(values) > 1e-3:
        assert found.cv == pytest.approx(np.std(values) / np.mean(values), abs=1e-6)


@given(samples)
def test_only_drift_looks_at_the_order_of_samples(values: list[float]) -> None:
    one, other = summarise(values), summarise(sorted(values))
    assert (one.count, one.p50_ms, one.p90_ms, one.p99_ms) == (other.count, other.p50_ms, other.p90_ms, other.p99_ms)
    assert (one.p50_low_ms, one.p50_high_ms) == (other.p50_low_ms, other.p50_high_ms)
    assert [flag for flag in one.flags if flag.kind != "drift"] == [f for f in other.flags if f.kind != "drift"]


@given(samples, st.floats(0.5, 1000))
def test_units_scale_everything_but_the_spread(values: list[float], factor: float) -> None:
    one, other = summarise(values), summarise([factor * value for value in values])
    assert other.p50_ms == pytest.approx(factor * one.p50_ms)
    assert other.mean_ms == pytest.approx(factor * one.mean_ms)
    if one.mean_ms > 1e-3:
        assert other.cv == pytest.approx(one.cv, abs=1e-6)


def test_samples_without_spread() -> None:
    found = summarise([2.0] * 10)
    assert (found.cv, found.p50_low_ms, found.p50_high_ms, found.flags) == (0, 2.0, 2.0, ())
    assert summarise([0.0, 0.0]).cv == 0
    assert summarise([0.0] * 100).flags == ()
    assert summarise([1.0, 3.0]).cv == 0.5


@pytest.mark.parametrize("values", [[], [1, np.nan], [np.inf], [-np.inf, 1], [1, -0.001]])
def test_what_is_no_latency_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="latency samples must be finite"):
        summarise(values)
