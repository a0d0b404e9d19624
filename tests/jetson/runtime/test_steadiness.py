"""A trend is what Kendall's tau says it is, and steady is what has none that matters."""

import numpy as np
import pytest
from scipy import stats

from jetson.runtime.steadiness import WINDOW, remaining_trend


def has_trend(samples):
    """Tell whether Kendall's exact test, as SciPy computes it, sees a trend at 5 %, and the medians moved by 2 %."""
    window = samples[-WINDOW:]
    p_value = stats.kendalltau(range(WINDOW), window, method="exact").pvalue
    before, after = np.median(window[: WINDOW // 2]), np.median(window[WINDOW // 2 :])
    return bool(p_value < 0.05 and abs(after / before - 1) > 0.02)


@pytest.mark.parametrize("slope", [-0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1])
def test_a_trend_is_what_scipy_calls_one(slope):
    random = np.random.default_rng(int(1000 + 1000 * slope))
    seen = [0, 0]
    for _ in range(150):
        samples = (5 * np.exp(slope * np.arange(14) + random.normal(0, 0.05, 14))).tolist()
        assert (remaining_trend(samples) is not None) == has_trend(samples)
        seen[has_trend(samples)] += 1
    if abs(slope) == 0.1:
        assert seen[1] == 150
    if slope == 0:
        assert seen[1] < 15, "of what has no trend, one in twenty seems to have one"


def test_the_direction_and_the_size_are_told():
    assert remaining_trend([10.0 - number for number in range(10)]) == (
        "in the last 10 rounds of the warm-up it still got 62 % faster"
    )
    assert remaining_trend([1.0 + number for number in range(10)]) == (
        "in the last 10 rounds of the warm-up it still got 167 % slower"
    )
    assert remaining_trend([0.0] * 5 + [1.0] * 5) == "in the last 10 rounds of the warm-up it got slower from 0 on"


@pytest.mark.parametrize(
    "samples",
    [
        [1.0] * 10,
        [9.0] + [1.0] * 9,
        [1.0, 1.001, 1.002, 1.003, 1.004, 1.005, 1.006, 1.007, 1.008, 1.009],
        [5.0, 4.0, 3.0, *([1.0, 1.1] * 5)],
    ],
    ids=["constant", "one slow run", "too little to matter", "a start that is past"],
)
def test_what_is_steady(samples):
    assert remaining_trend(samples) is None


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="9 samples are too few"):
        remaining_trend([1.0] * 9)
