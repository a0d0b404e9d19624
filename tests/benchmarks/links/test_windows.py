"""From windows to a goodput: slow start is left out, the interval is SciPy's and covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.links.windows import STEADY_WINDOWS, Window, goodput_of, is_steady, median_interval

SLOW_START = [0.1e6, 0.2e6, 0.4e6, 0.8e6]


def windows(*rates_bps: float) -> list[Window]:
    return [Window(round(rate / 8 * 0.25), 0.25) for rate in rates_bps]


def test_slow_start_is_not_steady_and_does_not_count() -> None:
    row = windows(*SLOW_START, *[1e6] * (STEADY_WINDOWS - 1))
    assert [is_steady(row[:count]) for count in range(len(row) + 1)] == [False] * (len(row) + 1)
    steady = [*row, *windows(1.02e6)]
    assert is_steady(steady)
    found = goodput_of(steady)
    assert (found.median_bps, found.kept, found.reason) == (pytest.approx(1e6), STEADY_WINDOWS, "")


def test_a_link_that_moves_is_not_steady_and_says_so() -> None:
    moving = windows(*SLOW_START, *[1e6, 1.4e6] * 6)
    found = goodput_of(moving)
    assert not is_steady(moving)
    assert found.reason == "the last 8 windows spread by 33 %"
    assert found.kept == 12  # all but slow start
    assert found.median_bps == pytest.approx(1.2e6)
    assert goodput_of(windows(1e6, 1e6, 1e6)).reason == "there are only 3 windows"


@pytest.mark.parametrize("factor", [1.04, 0.96, 2.0, 0.5])
def test_a_trend_is_steady_only_while_it_stays_small(factor: float) -> None:
    row = windows(*np.geomspace(1e6, factor * 1e6, STEADY_WINDOWS))
    assert is_steady(row) == (0.9 < factor < 1.1)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=60))
def test_the_interval_is_that_of_the_binomial_distribution(values: list[float]) -> None:
    count = len(values)
    # As many values may lie outside on each side as happen to in at most 2.5 % of cases.
    outside = int(binom.ppf(0.025, count, 0.5))
    if binom.cdf(outside, count, 0.5) > 0.025:
        outside -= 1
    interval = median_interval(values)
    assert (interval is None) == (outside < 0) == (count < 6)
    if interval is not None:
        assert interval == (sorted(values)[outside], sorted(values)[count - 1 - outside])
        assert interval[0] <= np.median(values) <= interval[1]


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    draws = np.exp(generator.normal(size=(2000, 13)))  # skewed, median 1
    intervals = [median_interval(row.tolist()) for row in draws]
    covered = np.mean([low <= 1 <= high for low, high in filter(None, intervals)])
    assert 0.95 <= covered <= 0.985  # exactly 0.9775 for 13 samples
