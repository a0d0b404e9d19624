"""The interval is that of resampling, which is done here one resample at a time, and it covers what it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.latency.median_interval import median_interval


@pytest.mark.parametrize("count", [8, 9, 30, 101])
def test_it_is_the_interval_of_resampling(count: int) -> None:
    random = np.random.default_rng(count)
    ranked = np.sort(random.lognormal(size=count))
    medians = [np.median(random.choice(ranked, count)) for _ in range(8000)]
    # Quantiles of 2,000 resamples vary: compare where they are among the 8,000 of here.
    found = median_interval(ranked)
    assert found is not None
    low, high = found
    assert np.mean(medians < np.float64(low)) <= 0.025 + 0.012
    assert np.mean(medians <= np.float64(low)) >= 0.025 - 0.012
    assert np.mean(medians > np.float64(high)) <= 0.025 + 0.012
    assert np.mean(medians >= np.float64(high)) >= 0.025 - 0.012


@pytest.mark.parametrize(("count", "least"), [(8, 0.90), (20, 0.92), (100, 0.93)])
def test_it_covers_the_true_median_about_as_often_as_it_says(count: int, least: float) -> None:
    random = np.random.default_rng(7)
    runs = 800
    found = [median_interval(np.sort(1 + random.exponential(size=count))) for _ in range(runs)]
    covered = np.mean([low <= 1 + np.log(2) <= high for low, high in found])  # type: ignore[misc]
    assert least <= covered <= 0.98


def test_the_same_samples_have_the_same_interval_whatever_was_asked_before() -> None:
    ranked = np.sort(np.random.default_rng(0).random(50))
    first = median_interval(ranked)
    for count in range(8, 200):
        median_interval(np.arange(float(count)))
    assert median_interval(ranked.copy()) == first


def test_few_samples_have_none() -> None:
    assert median_interval(np.arange(7.0)) is None
    assert median_interval(np.full(8, 3.0)) == (3.0, 3.0)
