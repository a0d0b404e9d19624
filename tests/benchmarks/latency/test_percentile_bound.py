"""MLPerf's bound: its numbers, SciPy's binomial distribution, and how often it holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.latency.percentile_bound import least_samples, over_latency_queries, percentile_bound


def test_the_least_counts_are_those_of_mlperfs_rules() -> None:
    assert (least_samples(90), least_samples(99)) == (64, 662)


@pytest.mark.parametrize("percent", [50, 90, 95, 99])
@pytest.mark.parametrize("count", [1, 43, 63, 64, 100, 661, 662, 1000, 24576])
def test_as_many_queries_may_be_late_as_scipys_distribution_says(count: int, percent: int) -> None:
    late = stats.binom(count, 1 - percent / 100)
    found = over_latency_queries(count, percent)
    if found > 0:
        assert late.cdf(found) <= 0.01
    assert late.cdf(found + 1) > 0.01


def test_a_bound_is_a_sample_near_the_top() -> None:
    assert percentile_bound(np.arange(63.0), 90) is None
    assert percentile_bound(np.arange(64.0), 90) == 63.0
    assert percentile_bound(np.arange(100.0), 90) == 97.0  # P(X <= 3) = 0.008, P(X <= 4) = 0.024
    assert percentile_bound(np.arange(661.0), 99) is None


@pytest.mark.parametrize(("count", "percent"), [(64, 90), (100, 90), (500, 90), (662, 99)])
@pytest.mark.parametrize("form", ["exponential", "lognormal"])
def test_the_true_percentile_is_above_the_bound_in_under_1_of_100_runs(count: int, percent: int, form: str) -> None:
    random = np.random.default_rng(count)
    runs = 4000
    drawn = random.exponential(size=(runs, count)) if form == "exponential" else random.lognormal(size=(runs, count))
    true = {"exponential": stats.expon, "lognormal": stats.lognorm(1)}[form].ppf(percent / 100)
    bounds = np.sort(drawn, axis=1)[:, -over_latency_queries(count, percent)]
    missed = (bounds < true).mean()
    # What is missed exactly: all but t - 1 samples are below the percentile.
    exact = stats.binom(count, 1 - percent / 100).cdf(over_latency_queries(count, percent) - 1)
    assert exact < 0.01
    assert missed == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / runs))
