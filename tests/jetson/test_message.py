"""Messages carry tensors exactly; anything else, by accident or on purpose, is refused cheaply."""

import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jetson.errors import CoopexportError
from jetson.wire import CODEC_NAMES, MAXIMUM_TENSORS, TensorSpecification, pack, unpack

CODEC_OF = {"raw": 0, "zlib-huffman": 1}
CRC_OFFSET, TABLE_OFFSET = 5, 9

tensors = arrays.arrays(
    dtype=st.sampled_from(["uint8", "<f4", ">f4", "<i4", ">i4"]),
    shape=arrays.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3),
)
many_tensors = st.lists(tensors, min_size=1, max_size=MAXIMUM_TENSORS)
codecs = st.sampled_from(CODEC_NAMES)


def specifications(carried):
    """Return what a receiver of `carried` expects."""
    return [TensorSpecification(tensor.dtype.name, tensor.shape) for tensor in carried]


def sealed(codec, count, rest, magic=b"cx", version=1):
    """Return a message with a right checksum around whatever `rest` (table and bodies) is."""
    header = struct.pack("<2sBBB", magic, version, codec, count)
    return header + struct.pack("<I", zlib.crc32(header + rest)) + rest


def varint(number):
    """Return `number` as LEB128, written the other way round than in the code under test."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def row(dtype, shape, length):
    """Return one row of a tensor table."""
    return bytes([dtype, len(shape)]) + b"".join(varint(number) for number in (*shape, length))


def assert_refused(message, expected, match=None):
    with pytest.raises(CoopexportError, match=match):
        unpack(message, expected)


@contextlib.contextmanager
def at_most(size_bytes):
    """Fail when more than `size_bytes` are allocated at any one time inside."""
    tracemalloc.start()
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= size_bytes


# What goes in comes out.


@given(carried=many_tensors, codec=codecs)
@settings(deadline=None, max_examples=100)
def test_round_trip(carried, codec):
    received = unpack(pack(carried, codec), specifications(carried))
    assert len(received) == len(carried)
    for got, sent in zip(received, carried, strict=True):
        assert got.dtype == np.dtype(sent.dtype.name), "in the receiver's byte order"
        assert got.shape == sent.shape
        assert got.tobytes() == sent.astype(got.dtype).tobytes(), "bit for bit, NaN included"
        assert got.flags.writeable
        assert got.flags.c_contiguous


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (1, 0, 3), (1, 128, 28, 28), (1,) * 8, (0,) * 8])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
def test_every_dtype_and_kind_of_shape(codec, shape, dtype):
    sent = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    (got,) = unpack(pack([sent], codec), [TensorSpecification(dtype, shape)])
    assert got.dtype == sent.dtype
    np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_memory_order_does_not_matter(codec):
    whole = np.arange(4 * 6 * 8, dtype=np.int32).reshape(4, 6, 8)
    expected = [TensorSpecification("int32", (2, 3, 8))]
    for sent in (whole[::2, ::2], np.asfortranarray(whole[::2, ::2]), whole[::-2, 1::2], whole[:2, :3, ::-1]):
        assert pack([sent], codec) == pack([np.ascontiguousarray(sent)], codec)
        np.testing.assert_array_equal(unpack(pack([sent], codec), expected)[0], sent)


def test_what_is_received_owns_its_memory():
    sent = np.arange(6, dtype=np.uint8)
    message = bytearray(pack([sent], "raw"))
    (got,) = unpack(message, specifications([sent]))
    message[-6:] = bytes(6)
    np.testing.assert_array_equal(got, sent)


def test_any_buffer_of_bytes_can_be_unpacked():
    sent = np.arange(6, dtype=np.float32)
    for codec in CODEC_NAMES:
        message = pack([sent], codec)
        for buffer in (message, bytearray(message), memoryview(message)):
            np.testing.assert_array_equal(unpack(buffer, specifications([sent]))[0], sent)


def test_expected_shapes_may_be_lists_as_json_gives_them():
    sent = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (got,) = unpack(pack([sent], "raw"), [TensorSpecification("uint8", [2, 3])])
    np.testing.assert_array_equal(got, sent)


def test_size_of_a_specification():
    assert TensorSpecification("float32", (2, 3)).size_bytes == 24
    assert TensorSpecification("uint8", ()).size_bytes == 1
    assert TensorSpecification("int32", (5, 0)).size_bytes == 0


# What the format is.


def test_golden_bytes():
    """The layout of version 1, byte for byte: a change here needs another version."""
    carried = [
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.array(1.0, dtype=np.float32),
        np.array([-1, 300], dtype=np.int32),
        np.zeros((200, 0), dtype=np.uint8),
    ]
    golden = bytes.fromhex(
        "6378 01 00 04 3da2e4f0"  # "cx", version, codec raw, four tensors, CRC-32
        "00 03 01 02 03 06"  # uint8, three dimensions 1 x 2 x 3, six bytes
        "01 00 04"  # float32, a scalar, four bytes
        "02 01 02 08"  # int32, one dimension 2, eight bytes
        "00 02 c801 00 00"  # uint8, two dimensions 200 x 0, no bytes
        "00 01 02 03 04 05"
        "0000803f"
        "ffffffff 2c010000"
    )
    assert pack(carried, "raw") == golden
    for got, sent in zip(unpack(golden, specifications(carried)), carried, strict=True):
        np.testing.assert_array_equal(got, sent)


def test_golden_bytes_with_huffman_codes_are_read():
    """Only read: another zlib may choose other codes for the same symbols."""
    golden = bytes.fromhex(
        "6378 01 01 01 771050e9 00 02 04 32 3e"
        "05c10101000008c32076fb7716000000000000000000000000a0b5d65a6badb5d65a6badb5d65a6badb5d65a6badb5d65a6bed"
        "eeeeeeeeeeeeeeeeeeee01"
    )
    sent = np.array([0] * 100 + [1, 2] * 40 + [3] * 20, dtype=np.uint8).reshape(4, 50)
    np.testing.assert_array_equal(unpack(golden, specifications([sent]))[0], sent)


def test_overhead_of_a_usual_message_is_18_bytes():
    """9 of header, 2 for dtype and dimensions, 1 + 2 + 1 + 1 for 1 x 128 x 2 x 2, 2 for the length 512."""
    symbols = np.zeros((1, 128, 2, 2), dtype=np.uint8)
    assert len(pack([symbols], "raw")) == 512 + 18
    assert len(pack([symbols, symbols], "raw")) == 2 * 512 + 9 + 2 * 9


@given(carried=many_tensors)
@settings(deadline=None, max_examples=60)
def test_overhead_is_as_documented(carried):
    overhead_bytes = TABLE_OFFSET + sum(len(row(0, tensor.shape, tensor.nbytes)) for tensor in carried)
    assert len(pack(carried, "raw")) == overhead_bytes + sum(tensor.nbytes for tensor in carried)


def test_the_checksum_covers_every_other_byte():
    message = pack([np.arange(5, dtype=np.uint8)], "raw")
    (checksum,) = struct.unpack_from("<I", message, CRC_OFFSET)
    assert checksum == zlib.crc32(message[:CRC_OFFSET] + message[TABLE_OFFSET:])
    assert message == sealed(0, 1, message[TABLE_OFFSET:])


# What the sender refuses.


def test_a_message_holds_1_to_16_tensors():
    one = np.zeros(1, dtype=np.uint8)
    for count in (0, 17):
        with pytest.raises(CoopexportError, match=f"1 to 16 tensors, not {count}"):
            pack([one] * count, "raw")
    assert len(unpack(pack([one] * 16, "raw"), specifications([one] * 16))) == 16


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int64", "uint16", "uint32", "bool", "complex64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(CoopexportError, match=f"tensor 1 is {dtype} with 1 dimensions; a message takes uint8"):
        pack([np.zeros(3, np.uint8), np.zeros(3, dtype)], "raw")


def test_nine_dimensions_are_refused():
    with pytest.raises(CoopexportError, match="9 dimensions"):
        pack([np.zeros((1,) * 9, np.uint8)], "raw")


def test_an_unknown_codec_is_refused():
    with pytest.raises(CoopexportError, match="codec 'gzip' is unknown"):
        pack([np.zeros(3, np.uint8)], "gzip")


# What the receiver refuses: accidents.

SMALL = [np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2), np.array([1.5, -2.5], dtype=np.float32)]


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_truncation_is_refused(codec):
    message = pack(SMALL, codec)
    for length in range(len(message)):
        assert_refused(message[:length], specifications(SMALL))
    assert_refused(b"", specifications(SMALL), match="truncated: 0 bytes, its header alone has 9")


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_flip_of_a_single_bit_is_refused(codec):
    message = pack(SMALL, codec)
    for position in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[position // 8] ^= 1 << position % 8
        assert_refused(bytes(flipped), specifications(SMALL))


def test_a_flip_of_the_codec_is_refused_even_where_both_codecs_could_read_the_bytes():
    """DEFLATE streams as long as what they decode to exist; the checksum has to cover the codec."""
    stored = b"\x00" + struct.pack("<HH", 8, 8 ^ 0xFFFF) + b"abcdefgh"
    # Final block, fixed codes, from the lowest bit on: repeat 8 bytes from 8 back (length code 262,
    # distance code 5 and one more bit 1), end of block. 16 bytes of 16.
    bits = "1" + "10" + "0000110" + "00101" + "1" + "0000000"
    repeat = int(bits[::-1], 2).to_bytes(3, "little")
    body = stored + repeat
    assert zlib.decompress(body, wbits=-15) == b"abcdefgh" * 2
    assert len(body) == 16
    message = bytearray(pack([np.frombuffer(body, dtype=np.uint8)], "raw"))
    message[3] ^= 1
    assert_refused(bytes(message), [TensorSpecification("uint8", (16,))], match="checksum")


@given(carried=many_tensors, codec=codecs, data=st.data())
@settings(deadline=None, max_examples=100)
def test_damage_to_any_message_is_refused(carried, codec, data):
    message = bytearray(pack(carried, codec))
    position = data.draw(st.integers(0, 8 * len(message) - 1))
    message[position // 8] ^= 1 << position % 8
    assert_refused(bytes(message), specifications(carried))
    message[position // 8] ^= 1 << position % 8
    assert_refused(bytes(message[: position // 8]), specifications(carried))
    assert_refused(bytes(message) + data.draw(st.binary(min_size=1, max_size=9)), specifications(carried))


def test_the_reason_says_what_is_wrong_and_how_to_mend_it():
    expected = specifications(SMALL)
    message = pack(SMALL, "raw")
    rest = message[TABLE_OFFSET:]
    assert_refused(b"GET / HTTP/1.1\r\n", expected, match="does not begin with 'cx'")
    assert_refused(sealed(0, 2, rest, version=2), expected, match="version 2, this side speaks 1: update the older")
    assert_refused(sealed(7, 2, rest), expected, match="codec 7, which this side does not know")
    assert_refused(message, expected[:1], match="holds 2 tensors, 1 were expected: head and tail are not of")
    assert_refused(
        pack([SMALL[0].reshape(1, 12), SMALL[1]], "raw"),
        expected,
        match=r"tensor 0 of the payload is uint8 \(1, 12\), expected was uint8 \(1, 3, 2, 2\)",
    )
    assert_refused(
        pack([SMALL[0], SMALL[1].view(np.int32)], "raw"),
        expected,
        match=r"tensor 1 of the payload is int32 \(2,\), expected was float32 \(2,\)",
    )


@given(sent=tensors, wanted=tensors, codec=codecs)
@settings(deadline=None, max_examples=100)
def test_another_tensor_than_expected_is_refused(sent, wanted, codec):
    assume(specifications([sent]) != specifications([wanted]))
    assert_refused(pack([sent], codec), specifications([wanted]), match="not of the same cut")


# What the receiver refuses: malice, with a right checksum.

EXPECTED = [TensorSpecification("uint8", (1, 128, 2, 2))]
GOOD_ROW = row(0, (1, 128, 2, 2), 512)
BODY = bytes(512)
DIMENSIONS = varint(1) + varint(128) + varint(2) + varint(2)
HOSTILE = {
    "no table": (1, b""),
    "huge dimension": (1, row(0, (1, 128, 2, 2**62), 512) + BODY),
    "largest dimension": (1, row(0, (1, 128, 2, 2**63 - 1), 512) + BODY),
    "huge dimensions": (1, row(0, (2**62,) * 8, 512) + BODY),
    "dimensions whose product wraps to 512": (1, row(0, (2**32, 2**32, 128, 4), 512) + BODY),
    "another shape of the same size": (1, row(0, (1, 512), 512) + BODY),
    "zero dimension": (1, row(0, (1, 128, 2, 0), 0)),
    "nine dimensions": (1, row(0, (1,) * 9, 1) + b"\0"),
    "255 dimensions": (1, b"\x00\xff" + b"\x01" * 300),
    "unknown dtype": (1, row(3, (1, 128, 2, 2), 512) + BODY),
    "dtype 255": (1, row(255, (1, 128, 2, 2), 512) + BODY),
    "wider dtype": (1, row(1, (1, 128, 2, 2), 2048) + BODY * 4),
    "huge length": (1, row(0, (1, 128, 2, 2), 2**62) + BODY),
    "length 0": (1, row(0, (1, 128, 2, 2), 0)),
    "length 0 with a body": (1, row(0, (1, 128, 2, 2), 0) + BODY),
    "length one less": (1, row(0, (1, 128, 2, 2), 511) + BODY),
    "length one more": (1, row(0, (1, 128, 2, 2), 513) + BODY),
    "short body that adds up": (1, row(0, (1, 128, 2, 2), 511) + BODY[:-1]),
    "long body that adds up": (1, row(0, (1, 128, 2, 2), 513) + BODY + b"\0"),
    "varint without end": (1, b"\x00\x04" + b"\x80" * 2000),
    "varint of 10 bytes": (1, b"\x00\x04" + DIMENSIONS + b"\x80" * 9 + b"\x01" + BODY),
    "varint padded to 10 bytes": (1, b"\x00\x04\x81" + b"\x80" * 8 + b"\x00" + DIMENSIONS[1:] + varint(512) + BODY),
    "varint of ones": (1, b"\x00\x04" + b"\xff" * 2000),
    "varint cut off": (1, b"\x00\x04" + DIMENSIONS + b"\x80"),
    "no tensors": (0, b""),
    "no tensors but a table": (0, GOOD_ROW + BODY),
    "two tensors for one": (2, GOOD_ROW + GOOD_ROW + BODY + BODY),
    "255 tensors": (255, GOOD_ROW * 255 + BODY * 255),
    "a row too many": (1, GOOD_ROW + GOOD_ROW + BODY),
    "bytes at the end": (1, GOOD_ROW + BODY + b"\0"),
}


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_tables_are_refused_with_bounded_memory(codec, name):
    message = sealed(CODEC_OF[codec], *HOSTILE[name])
    with at_most(2 * len(message) + 100_000):
        assert_refused(message, EXPECTED)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nine dimensions", "tensor 0 has no valid type"),
        ("255 dimensions", "tensor 0 has no valid type"),
        ("unknown dtype", "tensor 0 has no valid type"),
        ("varint without end", "a number in its tensor table does not end"),
        ("varint padded to 10 bytes", "a number in its tensor table does not end"),
        ("huge length", "the tensor table does not add up to its length"),
        ("bytes at the end", "the tensor table does not add up to its length"),
    ],
)
def test_hostile_tables_are_refused_as_early_as_they_can_be(name, reason):
    assert_refused(sealed(0, *HOSTILE[name]), EXPECTED, match=reason)


def test_a_table_cut_off_anywhere_is_refused():
    for length in range(len(GOOD_ROW)):
        assert_refused(sealed(0, 1, GOOD_ROW[:length]), EXPECTED, match="truncated inside its tensor table")


def test_any_other_count_is_refused():
    assert unpack(sealed(0, 1, GOOD_ROW + BODY), EXPECTED)[0].shape == (1, 128, 2, 2)
    for count in (0, *range(2, 256)):
        message = sealed(0, count, GOOD_ROW + BODY)
        assert_refused(message, EXPECTED, match=f"holds {count} tensors, 1 were expected")


def test_a_bomb_is_refused_with_bounded_memory():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(64 << 20)) + compressor.flush()
    message = sealed(1, 1, row(0, (1, 128, 2, 2), len(bomb)) + bomb)
    with at_most(4 * len(message) + 100_000):
        assert_refused(message, EXPECTED, match="decodes to more than 512 bytes")


def test_sixteen_bombs_are_refused_at_the_first():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(1 << 20)) + compressor.flush()
    message = sealed(1, 16, row(0, (1, 128, 2, 2), len(bomb)) * 16 + bomb * 16)
    with at_most(2 * len(message) + 100_000):
        assert_refused(message, EXPECTED * 16, match="decodes to more than 512 bytes")


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_memory_follows_what_arrived_and_not_what_is_expected(codec):
    """A receiver that rightly expects a terabyte must not allocate it for ten bytes."""
    message = sealed(CODEC_OF[codec], 1, row(0, (2**40,), 10) + bytes(10))
    with at_most(200_000):
        assert_refused(message, [TensorSpecification("uint8", (2**40,))])


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_a_right_message_needs_a_few_times_its_size(codec):
    sent = np.zeros((1, 256, 64, 64), dtype=np.uint8)
    message = pack([sent], codec)
    with at_most(len(message) + 3 * sent.nbytes + 100_000):
        unpack(message, specifications([sent]))


@given(message=st.binary(max_size=80))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_refused(message):
    assert_refused(message, specifications(SMALL))
    assert_refused(b"cx\x01\x00\x02" + message, specifications(SMALL))


@given(codec=st.integers(0, 2), rest=st.binary(max_size=60), expected=tensors)
@settings(deadline=None, max_examples=300)
def test_random_bytes_with_a_right_checksum_are_refused_or_exactly_as_expected(codec, rest, expected):
    (specification,) = specifications([expected])
    tables = [rest, bytes([["uint8", "float32", "int32"].index(specification.dtype), expected.ndim]) + rest]
    tables.append(row(tables[1][0], expected.shape, len(rest)) + rest)
    for table in tables:
        try:
            (got,) = unpack(sealed(codec, 1, table), [specification])
        except CoopexportError:
            continue
        assert (got.dtype.name, got.shape) == specification


@given(carried=st.lists(tensors, min_size=1, max_size=3), codec=codecs, data=st.data())
@settings(deadline=None, max_examples=300)
def test_damage_below_a_right_checksum_never_raises_anything_else(carried, codec, data):
    rest = bytearray(pack(carried, codec)[TABLE_OFFSET:])
    for _ in range(data.draw(st.integers(1, 4))):
        rest[data.draw(st.integers(0, len(rest) - 1))] = data.draw(st.integers(0, 255))
    expected = specifications(carried)
    try:
        received = unpack(sealed(CODEC_OF[codec], len(carried), bytes(rest)), expected)
    except CoopexportError:
        return
    assert specifications(received) == expected
