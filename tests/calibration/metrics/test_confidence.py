"""Confidence intervals against published and hand-made numbers, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.metrics.confidence import (
    Z,
    compare_right,
    mean_interval,
    metric_interval,
    paired_difference,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 3000), st.data())
def test_wilson_is_an_interval_around_the_share_and_symmetric(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    low, high = wilson_interval(right, count)
    assert 0 <= low <= right / count <= high <= 1
    assert wilson_interval(count - right, count) == (pytest.approx(1 - high), pytest.approx(1 - low))


def test_counts_that_do_not_fit_are_refused() -> None:
    for right, count in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="is not a proportion"):
            wilson_interval(right, count)
    for lost, won, count in ((-1, 0, 3), (2, 2, 3), (0, 0, 0)):
        with pytest.raises(ValueError, match="that disagree"):
            paired_difference(lost, won, count)
    with pytest.raises(ValueError, match="same images"):
        compare_right(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.985])
def test_wilson_covers_the_truth_about_as_often_as_it_says(share: float) -> None:
    drawn = np.random.default_rng(5).binomial(1000, share, 4000)
    covered = np.mean([low <= share <= high for low, high in (wilson_interval(int(k), 1000) for k in drawn)])
    assert 0.935 < covered < 0.97


def test_the_mean_of_other_values_takes_the_normal_approximation() -> None:
    values = np.array([0.2, 0.4, 0.9, 0.5])
    half = 1.96 * np.sqrt(((values - 0.5) ** 2).sum() / 3) / 2
    assert mean_interval(values) == (pytest.approx(0.5 - half, abs=1e-4), pytest.approx(0.5 + half, abs=1e-4))
    assert metric_interval(values) == mean_interval(values)
    assert mean_interval(values[:1]) is None


def test_a_metric_takes_the_interval_that_fits_its_values() -> None:
    assert metric_interval(None) is None
    assert metric_interval(np.array([1.0, 0.0, 1.0, 1.0])) == wilson_interval(3, 4)
    assert metric_interval(np.array([1.0, 0.0, 1.0, 0.99])) == mean_interval(np.array([1.0, 0.0, 1.0, 0.99]))


def test_a_paired_difference_by_hand() -> None:
    found = paired_difference(5, 12, 100)
    assert found.difference == pytest.approx(0.07)
    # (12.5 - 5.5) / 102 = 0.068627; sqrt(18 - 49 / 102) / 102 = 0.041036.
    assert found.low == pytest.approx(0.068627 - Z * 0.041036, abs=1e-5)
    assert found.high == pytest.approx(0.068627 + Z * 0.041036, abs=1e-5)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_differences_count_images_and_turn_round(pairs: list[tuple[bool, bool]]) -> None:
    reference, this = (np.array(column) for column in zip(*pairs, strict=True))
    found, turned = compare_right(reference, this), compare_right(this, reference)
    assert found.difference == pytest.approx(this.mean() - reference.mean())
    assert (found.only_reference_right, found.only_this_right) == (turned.only_this_right, turned.only_reference_right)
    assert (found.low, found.high) == (pytest.approx(-turned.high), pytest.approx(-turned.low))
    assert -1 <= found.low <= found.difference <= found.high <= 1


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.01, 0.04), (0.10, 0.05)])
def test_paired_intervals_cover_the_truth_about_as_often_as_they_say(lost: float, won: float) -> None:
    drawn = np.random.default_rng(6).multinomial(500, [lost, won, 1 - lost - won], 4000)
    found = [paired_difference(int(one), int(other), 500) for one, other, _ in drawn]
    covered = np.mean([item.low <= won - lost <= item.high for item in found])
    assert 0.935 < covered < 0.975
