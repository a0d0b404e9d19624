"""The dip is the distance to the nearest unimodal distribution: here a linear programme finds that one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from benchmarks.latency.dip import dip


def dip_by_programme(ranked: np.ndarray) -> float:
    """Return the least distance over all places of the mode, straight from the definition.

    Unknown are the unimodal function at the samples, left of the mode (and just before it) and from the mode on, and
    the distance; at each sample the function must be that near to the samples' own before and after its step.
    """
    places, counts = np.unique(ranked, return_counts=True)
    upper = np.cumsum(counts) / len(ranked)
    lower, size = upper - counts / len(ranked), len(places)
    return max(
        min(_distance(places, lower, upper, mode) for mode in range(size)),
        0.5 / len(ranked),
    )


def _distance(places: np.ndarray, lower: np.ndarray, upper: np.ndarray, mode: int) -> float:
    left, right = range(mode + 1), range(mode, len(places))
    unknowns = len(left) + len(right) + 1
    rows, bounds = [], []

    def at_most(bound: float, *terms: tuple[int, float]) -> None:
        row = np.zeros(unknowns)
        for index, factor in terms:
            row[index] += factor
        rows.append(row)
        bounds.append(bound)

    for side, begin, sign in ((left, 0, 1), (right, len(left) - mode, -1)):
        for index in side:
            # At the mode itself a step is allowed: the left part is compared before it, the right part after it.
            top = upper[index] if index == mode and side is right else lower[index]
            bottom = lower[index] if index == mode and side is left else upper[index]
            at_most(top, (begin + index, 1), (unknowns - 1, -1))
            at_most(-bottom, (begin + index, -1), (unknowns - 1, -1))
        for before, index, after in zip(side, side[1:], side[2:], strict=False):
            first, second = 1 / (places[index] - places[before]), 1 / (places[after] - places[index])
            terms = ((before, -first), (index, first + second), (after, -second))
            at_most(0, *((begin + number, sign * factor) for number, factor in terms))
        for before, after in itertools.pairwise(side):
            at_most(0, (begin + before, 1), (begin + after, -1))
    at_most(0, (mode, 1), (len(left), -1))
    return float(linprog(np.eye(unknowns)[-1], np.array(rows), bounds, bounds=[(0, 1)] * unknowns).fun)


@pytest.mark.parametrize("form", ["uniform", "ties", "two modes", "exponential"])
def test_it_is_the_distance_to_the_nearest_unimodal_distribution(form: str) -> None:
    random = np.random.default_rng(len(form))
    for count in (1, 2, 3, 5, 8, 11, 13):
        values = {
            "uniform": lambda n: random.random(n),
            "ties": lambda n: random.integers(0, 6, n).astype(float),
            "two modes": lambda n: random.normal(0, 1, n) + 6 * (np.arange(n) % 2),
            "exponential": lambda n: random.exponential(size=n),
        }[form](count)
        assert dip(np.sort(values)) == pytest.approx(dip_by_programme(np.sort(values)), abs=1e-7)


def test_its_ends() -> None:
    assert dip(np.arange(50.0)) == pytest.approx(1 / 100)
    assert dip(np.full(50, 2.0)) == pytest.approx(1 / 100)
    assert dip(np.repeat([1.0, 2.0], 25)) == pytest.approx(1 / 4)
    assert dip(np.repeat([1.0, 2.0], [40, 10])) == pytest.approx(1 / 10)


def test_scale_and_direction_say_nothing() -> None:
    values = np.sort(np.random.default_rng(4).gamma(2, size=80))
    assert dip(7 + 3 * values) == pytest.approx(dip(values))
    assert dip(-values[::-1]) == pytest.approx(dip(values))


@pytest.mark.parametrize(("count", "tabled"), [(20, 0.1051), (100, 0.0511)])
def test_uniform_samples_have_the_dips_of_maechlers_table(count: int, tabled: float) -> None:
    random = np.random.default_rng(0)
    dips = [dip(np.sort(random.random(count))) for _ in range(1500)]
    assert np.quantile(dips, 0.95) == pytest.approx(tabled, rel=0.05)
