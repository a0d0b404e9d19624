"""Summaries: what NumPy says, and nothing that the number of samples cannot support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.statistics import MIN_SAMPLES, summarise

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=900)


@given(samples)
def test_summaries_are_numpys(values: list[float]) -> None:
    found = summarise(values)
    assert found.count == len(values)
    assert found.p50_ms == np.percentile(values, 50)
    assert found.mean_ms == pytest.approx(np.mean(values))
    assert (found.p90_ms is None) == (len(values) < 64)
    assert (found.p99_ms is None) == (len(values) < 662)
    if found.p90_ms is not None:
        assert found.p50_ms <= found.p90_ms == np.percentile(values, 90)
    if found.p99_ms is not None and found.p90_ms is not None:
        assert found.p90_ms <= found.p99_ms == np.percentile(values, 99)
    assert found.cv >= 0
    if np.mean(values) > 1e-3:
        assert found.cv == pytest.approx(np.std(values) / np.mean(values), abs=1e-6)


@given(samples)
def test_the_order_of_samples_says_nothing(values: list[float]) -> None:
    one, other = summarise(values), summarise(sorted(values))
    assert (one.count, one.p50_ms, one.p90_ms, one.p99_ms) == (other.count, other.p50_ms, other.p90_ms, other.p99_ms)


@given(samples, st.floats(0.5, 1000))
def test_units_scale_everything_but_the_spread(values: list[float], factor: float) -> None:
    one, other = summarise(values), summarise([factor * value for value in values])
    assert other.p50_ms == pytest.approx(factor * one.p50_ms)
    assert other.mean_ms == pytest.approx(factor * one.mean_ms)
    if one.mean_ms > 1e-3:
        assert other.cv == pytest.approx(one.cv, abs=1e-6)


@pytest.mark.parametrize(("percent", "field"), [(90, "p90_ms"), (99, "p99_ms")])
def test_a_percentile_begins_exactly_at_its_least_count(percent: int, field: str) -> None:
    least = MIN_SAMPLES[percent]
    assert getattr(summarise(range(least - 1)), field) is None
    assert getattr(summarise(range(least)), field) == np.percentile(np.arange(least), percent)


def test_samples_without_spread() -> None:
    assert summarise([2.0] * 10).cv == 0
    assert summarise([0.0, 0.0]).cv == 0
    assert summarise([1.0, 3.0]).cv == 0.5


@pytest.mark.parametrize("values", [[], [1, np.nan], [np.inf], [-np.inf, 1], [1, -0.001]])
def test_what_is_no_latency_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="latency samples must be finite"):
        summarise(values)
