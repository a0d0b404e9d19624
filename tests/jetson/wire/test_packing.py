"""Symbols of every packing lie where docs/formats.md says, and come out again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from packed_examples import PACKINGS as DOCUMENTED
from packed_examples import WIDTHS, packed_by_hand, taken_by_hand

from jetson.wire.packing import PACKINGS, pack_bits, packed_dtype, packed_shape, tail_shape, unpack_bits

shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=5)


def test_the_packings_are_those_documented():
    assert PACKINGS == DOCUMENTED


@given(st.sampled_from(WIDTHS), shapes, st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_symbols_lie_as_documented_and_come_out_again(width, shape, batch, seed):
    bits, packing = width
    symbols = np.random.default_rng(seed).integers(0, 1 << bits, (batch, *shape), dtype=np.uint8)
    expected = packed_by_hand(symbols, bits, packing)
    packed = pack_bits(symbols, bits, packing)
    assert (packed.dtype, packed.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(packed, expected)
    assert (packed.dtype, packed.shape) == (packed_dtype(packing), (batch, *packed_shape(shape, bits, packing)))
    assert taken_by_hand(symbols, bits, packing).shape == (batch, *tail_shape(shape, bits, packing))
    found = unpack_bits(expected, bits, packing, int(np.prod(shape)))
    assert np.array_equal(found, symbols.reshape(batch, -1))


@pytest.mark.parametrize(("bits", "packing"), WIDTHS)
def test_memory_and_byte_order_do_not_matter(bits, packing):
    symbols = np.random.default_rng(0).integers(0, 1 << bits, (3, 37), dtype=np.uint8)
    packed = packed_by_hand(symbols, bits, packing)
    wide = np.zeros((3, 2 * packed.shape[1]), packed.dtype)
    wide[:, ::2] = packed
    for same in (np.asfortranarray(packed), wide[:, ::2], packed.astype(packed.dtype.newbyteorder(">"))):
        assert np.array_equal(unpack_bits(same, bits, packing, 37), symbols)
