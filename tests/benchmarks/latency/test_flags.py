"""Flags: what is planted is found, what only looks odd is not, and each says its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.latency.statistics import summarise

RANDOM = np.random.default_rng
Draw = Callable[[np.random.Generator, int], np.ndarray]


def noise(random: np.random.Generator, count: int, spread: float = 0.02) -> np.ndarray:
    return 1 + spread * random.standard_normal(count)


def kinds_in(draw: Draw, count: int, runs: int = 120) -> Counter:
    """Return how often each kind of flag was raised in `runs` draws of `count` samples."""
    random = RANDOM(count)
    return Counter(flag.kind for _ in range(runs) for flag in summarise(draw(random, count).tolist()).flags)


def texts(values: np.ndarray) -> list[str]:
    return [flag.text for flag in summarise(values.tolist()).flags]


@pytest.mark.parametrize("count", [30, 100, 400])
@pytest.mark.parametrize(
    "draw",
    [
        noise,
        lambda random, count: noise(random, count, 0.05),
        lambda random, count: random.lognormal(0, 0.08, count),
        lambda random, count: 1 + 0.1 * random.gamma(2, 1, count),
        lambda random, count: 1 + random.exponential(0.1, count),
        lambda random, count: 1 + 0.2 * random.random(count),
        lambda random, count: np.round(noise(random, count), 2),
    ],
    ids=["quiet", "noisy", "lognormal", "gamma", "exponential", "uniform", "coarse clock"],
)
def test_one_mode_that_stays_where_it_is_has_hardly_ever_a_flag(draw: Draw, count: int) -> None:
    found = kinds_in(draw, count)
    assert found["bimodal"] <= 1
    assert found["drift"] <= 1
    if count >= 100:
        assert found.total() <= 6


@pytest.mark.parametrize(
    ("share", "apart", "count"), [(0.5, 1.2, 60), (0.5, 1.2, 100), (0.3, 1.3, 100), (0.2, 1.5, 200), (0.2, 1.2, 400)]
)
def test_two_modes_are_found(share: float, apart: float, count: int) -> None:
    def draw(random: np.random.Generator, count: int) -> np.ndarray:
        slow = random.permutation(np.arange(count) < share * count)
        return np.where(slow, apart, 1.0) * noise(random, count)

    assert kinds_in(draw, count, 100)["bimodal"] >= 95


def test_two_modes_are_told_apart_where_they_are() -> None:
    random = RANDOM(2)
    values = np.where(np.arange(100) % 5 < 2, 1.5, 1.0) * noise(random, 100, 1e-4)
    values[15] = 40.0  # one that is far out is no mode
    assert texts(values) == ["bimodal: 40 % of the samples are around 1.5 ms, the others 1 ms"]


def test_modes_that_are_nearly_the_same_do_not_matter() -> None:
    values = np.where(np.arange(100) % 2, 1.04, 1.0) * noise(RANDOM(3), 100, 0.002)
    assert texts(values) == []


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_drift_is_found_with_its_direction_and_size(factor: float) -> None:
    values = np.linspace(1, factor, 90) * noise(RANDOM(1), 90, 0.001)
    (text,) = texts(values)
    change = "slower" if factor > 1 else "faster"
    # Medians of the thirds are a sixth and five sixths of the way: 0.975 and 0.875, or 1.025 and 1.125.
    assert text == f"drift: the last third is 10 % {change} than the first"
    assert kinds_in(lambda random, count: np.linspace(1, factor, count) * noise(random, count), 100)["drift"] == 120


def test_a_step_is_drift_too_and_a_shuffle_takes_it_away() -> None:
    random = RANDOM(8)
    values = np.where(np.arange(120) < 70, 1.0, 1.25) * noise(random, 120)
    assert "drift: the last third is 25 % slower than the first" in texts(values)
    assert not any("drift" in text for text in texts(random.permutation(values)))


def test_drift_that_is_sure_but_small_or_large_but_unsure_has_no_flag() -> None:
    assert texts(np.linspace(1, 1.05, 400)) == []
    assert "drift" not in {flag.kind for flag in summarise([1.0, 1.0, 1.0, 1.5, 1.0, 1.5, 1.5, 1.5]).flags}


def test_outliers_have_share_and_size() -> None:
    values = noise(RANDOM(5), 100, 0.01)
    values[::12] = 3.0
    assert texts(values) == ["outliers: 9 % of the samples are far slower, up to 3 times the median"]
    values = noise(RANDOM(5), 100, 0.001)
    values[50] = 30.0  # a single one that makes the mean a third longer
    assert texts(values) == ["outliers: 1 % of the samples are far slower, up to 30 times the median"]
    values[50] = 2.0
    assert texts(values) == []


def test_a_median_that_few_samples_leave_open_says_how_far() -> None:
    assert texts(np.array([1.0, 2.0, 3.0])) == ["few samples: 3 say nothing of how well the median is known"]
    values = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8])
    found = summarise(values.tolist())
    assert found.p50_low_ms is not None and found.p50_high_ms is not None
    off = max(found.p50_high_ms - 1.4, 1.4 - found.p50_low_ms) / 1.4
    assert texts(values) == [f"few samples: from 9 the median is known within {100 * off:.0f} % only"]
    assert texts(noise(RANDOM(0), 9)) == []


def test_parts_that_take_no_time_by_the_clock_have_flags_without_a_division() -> None:
    assert texts(np.array([0.0] * 60 + [1.0] * 40))[0].startswith("drift: the last third is 1 ms slower")
    assert texts(np.array(([0.0] * 9 + [1.0]) * 10)) == ["outliers: 10 % of the samples are far slower, up to 1 ms"]
