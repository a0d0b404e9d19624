"""Flat indices and coordinates, against NumPy's own indexing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.channels.feature import coordinates_of, flat_numbers

# From here on numpy.unravel_index of NumPy 2.4.6 is wrong where the last dimension has size 1.
MANY = 8192


@st.composite
def large_shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Draw shapes of more elements than that, with dimensions of size 1 anywhere, most of all behind the others."""
    first = draw(st.integers(2, 300))
    second = draw(st.integers(MANY // first + 1, MANY // first + 40))
    sizes = draw(st.permutations([first, second, *draw(st.lists(st.just(1), max_size=2))]))
    return (*sizes, *draw(st.lists(st.just(1), max_size=3)))


@settings(max_examples=60)
@given(large_shapes(), st.integers(0, 2**32 - 1))
def test_coordinates_lead_to_the_elements_that_have_the_numbers(shape: tuple[int, ...], seed: int) -> None:
    elements = np.arange(math.prod(shape)).reshape(shape)
    shuffled = np.random.default_rng(seed).permuted(elements.reshape(-1)).reshape(shape)
    for numbers in (elements, shuffled):
        found = coordinates_of(numbers, shape)
        assert np.array_equal(elements[found], numbers)
        assert np.array_equal(flat_numbers(found, shape), numbers)


def test_coordinates_are_broadcast_against_each_other() -> None:
    rows, columns = np.arange(240).reshape(-1, 1), np.arange(40).reshape(1, -1)
    assert np.array_equal(flat_numbers((rows, columns), (240, 40)), np.arange(9600).reshape(240, 40))


@pytest.mark.parametrize("index", [-1, 3])
def test_coordinates_outside_of_the_shape_are_no_elements(index: int) -> None:
    with pytest.raises(ValueError, match="a dimension of 3"):
        flat_numbers((np.array([0]), np.array([index])), (2, 3))
