"""Codecs give back what went in, hold no more than they may, and refuse everything else."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetson.errors import CoopexportError
from jetson.wire.codecs import CODEC_NAMES, codec_code, codec_name, compress, decompress

quick = settings(deadline=None, max_examples=100)


def deflate(data, level=9):
    """Return a raw DEFLATE stream by the usual method, with repeats: denser than what we write."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


def test_the_numbers_on_the_wire_do_not_change():
    assert {name: codec_code(name) for name in CODEC_NAMES} == {"raw": 0, "zlib-huffman": 1}
    assert [codec_name(code) for code in (0, 1)] == ["raw", "zlib-huffman"]


def test_unknown_codecs_are_refused_with_what_there_is():
    for use in (codec_code, lambda name: compress(name, b""), lambda name: decompress(name, b"", 0)):
        with pytest.raises(CoopexportError, match="'lzma' is unknown; use one of raw, zlib-huffman"):
            use("lzma")
    for code in (2, 255, -1):
        with pytest.raises(CoopexportError, match=f"names codec {code}"):
            codec_name(code)


@pytest.mark.parametrize("codec", CODEC_NAMES)
@given(data=st.binary(max_size=2000))
@quick
def test_round_trip(codec, data):
    assert decompress(codec, compress(codec, data), len(data)) == data


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("size_bytes", [0, 1, 65535, 65536, 1_000_003])
def test_round_trip_of_large_data(codec, size_bytes):
    data = np.random.default_rng(0).integers(0, 40, size_bytes, dtype=np.uint8).tobytes()
    coded = compress(codec, data)
    assert decompress(codec, coded, size_bytes) == data
    assert len(coded) <= size_bytes + 8


def test_what_cannot_be_compressed_hardly_grows():
    data = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    assert len(compress("zlib-huffman", data)) <= len(data) + 5 * (1 + len(data) // 16383)


def test_huffman_reaches_the_entropy_of_quantised_features():
    symbols = np.random.default_rng(0).geometric(0.3, 100_000).clip(1, 256) - 1
    counts = np.bincount(symbols)
    frequencies = counts[counts > 0] / symbols.size
    entropy_bytes = -(frequencies * np.log2(frequencies)).sum() * symbols.size / 8
    coded = compress("zlib-huffman", symbols.astype(np.uint8).tobytes())
    assert entropy_bytes <= len(coded) <= 1.05 * entropy_bytes


def test_it_is_plain_deflate_in_both_directions():
    data = b"the same words, the same words, the same words" * 20
    assert zlib.decompress(compress("zlib-huffman", data), wbits=-15) == data
    for level in (0, 1, 9):
        assert decompress("zlib-huffman", deflate(data, level), len(data)) == data


@pytest.mark.parametrize("codec", CODEC_NAMES)
@given(data=st.binary(max_size=300), other=st.integers(0, 600))
@quick
def test_another_size_is_refused(codec, data, other):
    if other == len(data):
        other += 1
    with pytest.raises(CoopexportError, match="corrupt"):
        decompress(codec, compress(codec, data), other)


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_truncation_and_every_appended_byte_is_refused(codec):
    data = bytes(range(200))
    coded = compress(codec, data)
    for wrong in [coded[:length] for length in range(len(coded))] + [coded + b"\0", coded + coded]:
        with pytest.raises(CoopexportError, match="corrupt"):
            decompress(codec, wrong, len(data))


def test_a_stream_with_all_bytes_but_no_end_is_refused():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    unfinished = compressor.compress(b"all of it") + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(CoopexportError, match="do not end where they should"):
        decompress("zlib-huffman", unfinished, len(b"all of it"))


@given(coded=st.binary(max_size=200), size_bytes=st.integers(0, 300))
@settings(deadline=None, max_examples=400)
def test_random_bytes_give_exactly_the_size_or_are_refused(coded, size_bytes):
    for codec in CODEC_NAMES:
        try:
            decoded = decompress(codec, coded, size_bytes)
        except CoopexportError as error:
            assert "corrupt" in str(error)
        else:
            assert len(decoded) == size_bytes


@pytest.mark.parametrize("size_bytes", [0, 1, 512, 100_000])
def test_a_bomb_is_refused_without_unpacking_it(size_bytes):
    bomb = deflate(bytes(64 << 20))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(CoopexportError, match=f"decodes to more than {size_bytes} bytes"):
            decompress("zlib-huffman", bomb, size_bytes)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What was asked for (twice, while it is put together), the rest of the message, zlib's own state.
    assert peak_bytes < 2 * size_bytes + 2 * len(bomb) + 150_000
