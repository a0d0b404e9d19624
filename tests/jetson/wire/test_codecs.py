"""Codecs give back what went in, hold no more than they may, and refuse everything else."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from symbol_examples import random_model

from jetson.errors import CoopexportError
from jetson.wire.byte_layout import byte_planes, pack_bits, pack_symbols, unpack_bits, unpack_symbols
from jetson.wire.codecs import decode, encode
from jetson.wire.specification import CODEC_NAMES, TensorSpecification

PLAIN_CODECS = ("raw", "zlib-huffman")
quick = settings(deadline=None, max_examples=100)


def deflate(data, level=9):
    """Return a raw DEFLATE stream by the usual method, with repeats: denser than what we write."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def specification(shape, codec, bits=8):
    """Return the specification of symbols, with a random model where the codec needs one."""
    class_count = {"rans": 1, "rans-context": 3}.get(codec)
    model = class_count and random_model(np.random.default_rng(bits), bits, class_count)
    return TensorSpecification("uint8", tuple(shape), codec, bits, model)


def assert_round_trip(tensor, wanted):
    coded = encode(tensor, wanted)
    for buffer in (coded, bytearray(coded), memoryview(coded)):
        got = decode(buffer, wanted)
        assert (got.dtype, got.shape) == (np.dtype(wanted.dtype), tensor.shape)
        assert got.tobytes() == tensor.astype(got.dtype).tobytes(), "bit for bit, NaN included"
        assert got.flags.writeable
        assert got.flags.c_contiguous
    return coded


def test_the_names_are_what_bundles_hold():
    assert CODEC_NAMES == ("raw", "zlib-huffman", "rans", "rans-context")


@pytest.mark.parametrize("codec", CODEC_NAMES)
@given(
    shape=arrays.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4),
    bits=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
@quick
def test_symbols_come_back(codec, shape, bits, seed):
    symbols = np.random.default_rng(seed).integers(0, 1 << bits, shape, dtype=np.uint8)
    assert_round_trip(symbols, specification(shape, codec, bits))


@pytest.mark.parametrize("codec", PLAIN_CODECS)
@given(
    tensor=arrays.arrays(
        st.sampled_from(["<f4", ">f4", "<f2", ">f2", "<i4", ">i4", "u1"]),
        arrays.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4),
    )
)
@quick
def test_numbers_come_back(codec, tensor):
    assert_round_trip(tensor, TensorSpecification(tensor.dtype.name, tensor.shape, codec))


@pytest.mark.parametrize("codec", PLAIN_CODECS)
@pytest.mark.parametrize("count", [0, 1, 65535, 65536, 250_003])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_many_numbers_come_back(codec, count, dtype):
    numbers = np.random.default_rng(0).normal(20, 4, count).astype(dtype)
    assert len(assert_round_trip(numbers, TensorSpecification(dtype, (count,), codec))) <= numbers.nbytes + 40


# What lies in the bytes.


def test_symbols_are_packed_from_the_lowest_bits_on():
    symbols = np.array([1, 2, 3, 0, 2], np.uint8)
    assert pack_symbols(symbols, 2).tolist() == [0b00111001, 0b00000010]
    assert pack_symbols(symbols, 4).tolist() == [0x21, 0x03, 0x02]
    assert pack_symbols(symbols & 1, 1).tolist() == [0b00101]
    assert encode(symbols, specification((5,), "raw", 2)) == bytes([0b00111001, 0b00000010])
    assert unpack_symbols(np.array([0b00111001, 2], np.uint8), 2).tolist() == [1, 2, 3, 0, 2, 0, 0, 0]


def test_symbols_of_odd_widths_lie_end_to_end():
    symbols = np.array([5, 1, 7], np.uint8)
    assert pack_bits(symbols, 3).tolist() == [0b10100111, 0b10000000]
    assert encode(symbols, specification((3,), "raw", 3)) == bytes([0b10100111, 0b10000000])
    assert unpack_bits(np.array([0b10100111, 0b10000000], np.uint8), 3, 3).tolist() == [5, 1, 7]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_raw_takes_no_more_than_the_bits(bits, count):
    symbols = np.full(count, (1 << bits) - 1, np.uint8)
    assert len(encode(symbols, specification((count,), "raw", bits))) == -(-count * bits // 8)


def test_planes_hold_the_lowest_bytes_first():
    assert byte_planes(np.array([0x01020304, 0x05060708], "<i4")).tolist() == [[4, 8], [3, 7], [2, 6], [1, 5]]


def test_the_packed_bytes_are_what_huffman_codes():
    symbols = np.random.default_rng(0).integers(0, 4, 1000, dtype=np.uint8)
    coded = encode(symbols, specification((1000,), "zlib-huffman", 2))
    assert zlib.decompress(coded, wbits=-15) == pack_symbols(symbols, 2).tobytes()
    odd = encode(symbols, specification((1000,), "zlib-huffman", 3))
    assert zlib.decompress(odd, wbits=-15) == symbols.tobytes()


def test_every_byte_plane_of_floats_has_codes_of_its_own():
    numbers = np.random.default_rng(0).normal(0, 1, 20_000).astype(np.float32)
    coded = encode(numbers, TensorSpecification("float32", (20_000,), "zlib-huffman"))
    planes = np.frombuffer(numbers, np.uint8).reshape(-1, 4).T
    shares = [np.bincount(plane, minlength=256) / plane.size for plane in planes]
    entropy_bytes = sum(-(share[share > 0] * np.log2(share[share > 0])).sum() * 20_000 / 8 for share in shares)
    assert entropy_bytes < len(coded) < 1.01 * entropy_bytes


def test_what_cannot_be_compressed_hardly_grows():
    data = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8)
    assert len(encode(data, specification(data.shape, "zlib-huffman"))) <= len(data) + 5 * (1 + len(data) // 16383)


def test_huffman_reaches_the_entropy_of_quantised_features():
    symbols = (np.random.default_rng(0).geometric(0.3, 100_000).clip(1, 256) - 1).astype(np.uint8)
    counts = np.bincount(symbols)
    frequencies = counts[counts > 0] / symbols.size
    entropy_bytes = -(frequencies * np.log2(frequencies)).sum() * symbols.size / 8
    assert entropy_bytes <= len(encode(symbols, specification(symbols.shape, "zlib-huffman"))) <= 1.05 * entropy_bytes


def test_any_deflate_stream_is_read():
    data = b"the same words, the same words, the same words" * 20
    for level in (0, 1, 9):
        assert decode(deflate(data, level), specification((len(data),), "zlib-huffman")).tobytes() == data


# What is refused.


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("bits", range(1, 8))
def test_a_symbol_of_more_bits_is_not_sent(codec, bits):
    symbols = np.zeros((2, 3), np.uint8)
    symbols[1, 1] = 1 << bits
    with pytest.raises(CoopexportError, match=f"a symbol is {1 << bits}, .*not of the same cut"):
        encode(symbols, specification((2, 3), codec, bits))


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_a_symbol_of_more_bits_is_not_received(bits):
    coded = deflate(bytes([0, 1, 1 << bits]))
    with pytest.raises(CoopexportError, match=f"a symbol has more than {bits} bits"):
        decode(coded, specification((3,), "zlib-huffman", bits))


@pytest.mark.parametrize("bits", range(1, 8))
def test_unused_bits_have_to_be_zero(bits):
    coded = bytearray(encode(np.zeros(1, np.uint8), specification((1,), "raw", bits)))
    coded[0] |= 1 if bits in (3, 5, 6, 7) else 0x80
    with pytest.raises(CoopexportError, match="unused bits"):
        decode(bytes(coded), specification((1,), "raw", bits))


@pytest.mark.parametrize("codec", ["raw", "zlib-huffman"])
@given(count=st.integers(0, 300), other=st.integers(0, 600), bits=st.sampled_from([1, 3, 4, 8]))
@quick
def test_another_size_is_refused(codec, count, other, bits):
    if codec == "raw" and -(-count * bits // 8) == -(-other * bits // 8):
        other = count + 9
    if other == count or (codec == "zlib-huffman" and bits in (1, 4) and abs(other - count) < 9):
        other = count + 9
    symbols = np.random.default_rng(count).integers(0, 1 << bits, count, dtype=np.uint8)
    with pytest.raises(CoopexportError, match="corrupt"):
        decode(encode(symbols, specification((count,), codec, bits)), specification((other,), codec, bits))


@pytest.mark.parametrize("codec", ["raw", "zlib-huffman"])
def test_every_truncation_and_every_appended_byte_is_refused(codec):
    wanted = specification((200,), codec)
    coded = encode(np.arange(200, dtype=np.uint8), wanted)
    for wrong in [coded[:length] for length in range(len(coded))] + [coded + b"\0", coded + coded]:
        with pytest.raises(CoopexportError, match="corrupt"):
            decode(wrong, wanted)


@pytest.mark.parametrize("codec", ["rans", "rans-context"])
def test_a_coder_of_few_bytes_notices_most_damage_and_leaves_the_rest_to_the_checksum(codec):
    wanted = specification((200,), codec)
    coded = encode(np.arange(200, dtype=np.uint8), wanted)
    wrong = [coded[:length] for length in range(len(coded))] + [coded + bytes(count) for count in range(1, 9)]
    refused = 0
    for one in wrong:
        try:
            assert decode(one, wanted).shape == (200,)
        except CoopexportError as error:
            assert "corrupt" in str(error)
            refused += 1
    assert refused >= 0.95 * len(wrong)


def test_a_stream_with_all_bytes_but_no_end_is_refused():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    unfinished = compressor.compress(b"all of it") + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(CoopexportError, match="do not end where they should"):
        decode(unfinished, specification((9,), "zlib-huffman"))


@pytest.mark.parametrize("count", [0, 1, 512, 100_000])
def test_a_bomb_is_refused_without_unpacking_it(count):
    bomb = deflate(bytes(64 << 20))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(CoopexportError, match=f"decodes to more than {count} bytes"):
            decode(bomb, specification((count,), "zlib-huffman"))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What was asked for (twice, while it is put together), the rest of the message, zlib's own state.
    assert peak_bytes < 2 * count + 2 * len(bomb) + 150_000
