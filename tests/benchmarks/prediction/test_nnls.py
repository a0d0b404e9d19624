"""Non-negative least squares against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from benchmarks.prediction.nnls import non_negative_least_squares


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    sparse=st.booleans(),
    twins=st.booleans(),
    exact=st.booleans(),
)
def test_no_solution_is_better_than_scipys(
    rows: int, columns: int, seed: int, sparse: bool, twins: bool, exact: bool
) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.random((rows, columns)) * (generator.random((rows, columns)) < 0.5 if sparse else 1.0)
    if twins and columns > 1:
        matrix[:, 1] = 3.0 * matrix[:, 0]
    wanted = matrix @ np.maximum(generator.normal(size=columns), 0.0) if exact else generator.normal(size=rows)
    found = non_negative_least_squares(matrix, wanted)
    assert (found >= 0.0).all()
    _, least = nnls(matrix, wanted, maxiter=1000)
    assert np.linalg.norm(matrix @ found - wanted) <= least + 1e-8 * (1.0 + np.linalg.norm(wanted))


def test_units_of_the_columns_do_not_matter() -> None:
    generator = np.random.default_rng(3)
    matrix, units = generator.random((20, 4)), np.array([1e-6, 1.0, 1e9, 1e3])
    wanted = matrix @ np.array([2.0, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        non_negative_least_squares(matrix * units, wanted) * units, [2.0, 0.0, 0.5, 1.0], atol=1e-9
    )


@pytest.mark.parametrize("shape", [(3, 1), (3, 4)])
def test_columns_of_zeros_get_nothing(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(non_negative_least_squares(np.zeros(shape), np.ones(3)), np.zeros(shape[1]))
