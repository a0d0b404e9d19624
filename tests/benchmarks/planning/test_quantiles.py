"""The goodput of a percentile of latency: by hand, with weights, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.planning.quantiles import goodput_at_percentile
from jetson.errors import InputError


def test_the_95th_percentile_of_twenty_samples_is_the_second_lowest_goodput() -> None:
    samples = [float(value) for value in range(1, 21)]
    assert goodput_at_percentile(samples, 95) == 2.0
    assert goodput_at_percentile(samples, 95.1) == 1.0
    assert goodput_at_percentile(samples, 50) == 11.0
    assert goodput_at_percentile(samples, 100) == 1.0
    assert goodput_at_percentile(samples[::-1], 5) == 20.0


def test_a_sample_counts_as_long_as_it_lasted() -> None:
    assert goodput_at_percentile([1e6, 5e6], 90, weights=[1.0, 9.0]) == 5e6
    assert goodput_at_percentile([1e6, 5e6], 90, weights=[1.0, 8.9]) == 1e6
    assert goodput_at_percentile([1e6, 5e6], 100, weights=[0.0, 1.0]) == 5e6


@given(
    st.lists(st.floats(1.0, 1e9), min_size=1, max_size=40), st.sampled_from([1, 10, 25, 50, 90, 95, 99, 99.9, 100]),
    st.floats(0, 1e6), st.floats(0, 1e3),
)  # fmt: skip
def test_latency_there_is_numpys_percentile_of_all_latencies(
    samples: list[float], percentile: float, slope: float, fixed_ms: float
) -> None:
    latencies = [fixed_ms + slope / sample for sample in samples]
    found = fixed_ms + slope / goodput_at_percentile(samples, percentile)
    # NumPy ranks in floats: at a rank that is a whole number it may be one off.
    around = {float(np.percentile(latencies, p, method="inverted_cdf")) for p in (percentile - 1e-9, percentile)}
    assert found in around


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], 95), "no samples"),
        (([1e6, -1.0], 95), r"sample 1 of the goodput is -1\.0"),
        (([math.nan], 95), "sample 0 of the goodput is nan"),
        (([1e6], 101), "percentile 101"),
        (([1e6], math.nan), "percentile nan"),
        (([1e6], 95, [1.0, 2.0]), "2 weights for 1 samples"),
        (([1e6], 95, [-1.0]), r"weight 0 of the goodput is -1\.0"),
        (([1e6], 95, [0.0]), "add up to 0"),
    ],
)
def test_what_is_no_distribution_is_refused(arguments: tuple[list[float], float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        goodput_at_percentile(*arguments)
