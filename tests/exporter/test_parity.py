"""The error is measured against how much outputs vary; what proves nothing is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporter.parity import Parity, passing_parity, relative_error
from jetson.errors import CoopexportError

outputs = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, allow_subnormal=False)
)


def by_definition(reference: np.ndarray, other: np.ndarray) -> float:
    ranges = [max(column) - min(column) for column in reference.reshape(len(reference), -1).T]
    return max(abs(a - b) for a, b in zip(reference.ravel(), other.ravel(), strict=True)) / max(ranges)


@given(outputs, st.floats(-10, 10), st.integers(0, 23))
def test_error_is_the_largest_difference_over_the_largest_range(reference, difference, where) -> None:
    other = reference.copy()
    other.ravel()[where % other.size] += difference
    ranges = np.ptp(reference, axis=0)
    if ranges.max() <= 1e-4 * np.abs(reference).max():
        with pytest.raises(CoopexportError, match="vary by only"):
            relative_error(reference, other, "here")
    else:
        assert relative_error(reference, other, "here") == pytest.approx(by_definition(reference, other))


def test_a_large_offset_does_not_hide_an_error() -> None:
    reference = np.array([[1000.0], [1001.0]])
    assert relative_error(reference, reference + 0.5, "here") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reference", "other", "word"),
    [
        (np.ones((4, 2)), np.ones((4, 2)), "vary by only 0.0e+00 over 4 inputs"),
        (np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), "over 1 inputs"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "over 0 inputs"),
        (np.zeros((4, 0)), np.zeros((4, 0)), "outputs: empty (4x0), so that equality cannot be shown"),
        (np.array(1.0), np.array(1.0), "one number for the whole batch"),
        (np.ones((4, 2)), np.ones((4, 3)), "(4, 3), expected (4, 2)"),
        (np.array([[1.0], [np.nan]]), np.ones((2, 1)), "reference's outputs are not finite"),
        (np.array([[1.0], [2.0]]), np.array([[1.0], [np.inf]]), "not finite where the reference's are"),
    ],
)
def test_what_proves_nothing_is_refused(reference, other, word: str) -> None:
    with pytest.raises(CoopexportError) as caught:
        relative_error(reference, other, "parity check 'shrink'")
    assert word in str(caught.value)
    assert "parity check 'shrink'" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64])
def test_outputs_that_are_no_floats_are_compared_as_numbers(dtype: type) -> None:
    """Neither wraps around, as differences of unsigned integers would, nor stops at bool."""
    reference = np.array([[1, 0], [0, 1]], dtype=dtype)
    assert relative_error(reference, reference.copy(), "here") == 0
    assert relative_error(reference, np.zeros_like(reference), "here") == 1
    assert relative_error(np.zeros_like(reference) + reference, np.ones_like(reference), "here") == 1


def test_an_error_above_the_bound_names_the_place_and_the_number() -> None:
    good = Parity("cut", 0.0, 0.0, 4, "bits")
    assert passing_parity(good, "conv4_1") is good
    with pytest.raises(
        CoopexportError, match=r"conv4_1: parity check 'cut' failed: error 3\.00e\+00.*nothing was written"
    ):
        passing_parity(Parity("cut", 3.0, 0.0, 4, "bits"), "conv4_1")


def test_record_has_the_documented_keys() -> None:
    assert set(Parity("shrink", 3.1e-16, 1e-9, 16, "...").to_json()) == {"check", "error", "bound", "samples", "how"}
