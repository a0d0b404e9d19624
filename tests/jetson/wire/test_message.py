"""Messages carry tensors exactly; anything else, by accident or on purpose, is refused cheaply."""

import contextlib
import hashlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from symbol_examples import draw, information_bytes, random_model

from jetson.errors import CoopexportError
from jetson.wire.message import decode_message, encode_message
from jetson.wire.specification import CODEC_NAMES, MAXIMUM_TENSORS, TensorSpecification
from jetson.wire.symbol_model import symbol_model

HEADER_BYTES = 5
PLAIN_CODECS = ("raw", "zlib-huffman")

tensors = arrays.arrays(
    dtype=st.sampled_from(["uint8", "<f4", ">f4", "<f2", "<i4", ">i4"]),
    shape=arrays.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3),
)
many_tensors = st.lists(tensors, min_size=1, max_size=MAXIMUM_TENSORS)
codecs = st.sampled_from(CODEC_NAMES)


def specifications(carried, codec="raw"):
    """Return what both sides agree on for `carried`; numbers that rANS does not take are coded with zlib."""
    agreed = []
    for index, tensor in enumerate(carried):
        model = None
        own = codec
        if codec in ("rans", "rans-context"):
            if tensor.dtype == np.uint8:
                model = random_model(np.random.default_rng(index), 8, 1 if codec == "rans" else 2)
            else:
                own = "zlib-huffman"
        agreed.append(TensorSpecification(tensor.dtype.name, tensor.shape, own, 8, model))
    return agreed


def digest_of(agreed, associated_data=b""):
    """Return the digest of the message format, as docs/formats.md describes it."""
    rows = ",".join(
        '["{}",[{}],"{}",{},{}]'.format(
            row.dtype,
            ",".join(map(str, row.shape)),
            row.codec,
            row.bits,
            f'"{row.model.fingerprint.hex()}"' if row.model else "null",
        )
        for row in agreed
    )
    return hashlib.sha256(b"coopexport.wire/4\0" + f"[{rows}]".encode() + b"\0" + associated_data).digest()


def sealed(agreed, rest, associated_data=b"", first=0xC4, fingerprint=None):
    """Return a message with a right checksum around whatever `rest` (table and bodies) is."""
    digest = digest_of(agreed, associated_data)
    header = bytes([first]) + (fingerprint or digest[:1])
    return header + struct.pack("<I", zlib.crc32(header + rest, zlib.crc32(digest)))[:3] + rest


def varint(number):
    """Return `number` as LEB128, written the other way round than in the code under test."""
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def assert_refused(message, agreed, match=None, associated_data=b""):
    with pytest.raises(CoopexportError, match=match):
        decode_message(message, agreed, associated_data)


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


@given(carried=many_tensors, codec=codecs, associated_data=st.binary(max_size=40))
@settings(deadline=None, max_examples=100)
def test_round_trip(carried, codec, associated_data):
    agreed = specifications(carried, codec)
    received = decode_message(encode_message(carried, agreed, associated_data), agreed, associated_data)
    assert len(received) == len(carried)
    for got, sent in zip(received, carried, strict=True):
        assert got.dtype == np.dtype(sent.dtype.name), "in the receiver's byte order"
        assert got.shape == sent.shape
        assert got.tobytes() == sent.astype(got.dtype).tobytes(), "bit for bit, NaN included"
        assert got.flags.writeable
        assert got.flags.c_contiguous


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_memory_order_does_not_matter(codec):
    whole = (np.arange(4 * 6 * 8) % 251).astype(np.uint8).reshape(4, 6, 8)
    for sent in (whole[::2, ::2], np.asfortranarray(whole[::2, ::2]), whole[::-2, 1::2], whole[:2, :3, ::-1]):
        agreed = specifications([sent], codec)
        assert encode_message([sent], agreed) == encode_message([np.ascontiguousarray(sent)], agreed)
        np.testing.assert_array_equal(decode_message(encode_message([sent], agreed), agreed)[0], sent)


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_what_is_received_owns_its_memory(codec):
    sent = np.arange(6, dtype=np.uint8)
    agreed = specifications([sent], codec)
    message = bytearray(encode_message([sent], agreed))
    (got,) = decode_message(message, agreed)
    message[:] = bytes(len(message))
    np.testing.assert_array_equal(got, sent)


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_any_buffer_of_bytes_can_be_unpacked(codec):
    sent = np.arange(6, dtype=np.uint8)
    agreed = specifications([sent], codec)
    message = encode_message([sent], agreed)
    for buffer in (message, bytearray(message), memoryview(message)):
        np.testing.assert_array_equal(decode_message(buffer, agreed)[0], sent)


def test_shapes_may_be_lists_as_json_gives_them():
    sent = np.arange(6, dtype=np.uint8).reshape(2, 3)
    as_list = [TensorSpecification("uint8", [2, 3])]
    assert encode_message([sent], as_list) == encode_message([sent], specifications([sent]))
    np.testing.assert_array_equal(decode_message(encode_message([sent], as_list), as_list)[0], sent)


def test_size_of_a_specification():
    assert TensorSpecification("float32", (2, 3)).size_bytes == 24
    assert TensorSpecification("float16", (2, 3)).size_bytes == 12
    assert TensorSpecification("uint8", ()).size_bytes == 1
    assert TensorSpecification("int32", (5, 0)).size_bytes == 0


# What the format is.


def test_golden_bytes():
    """The layout of version 4, byte for byte: a change here needs another version."""
    carried = [
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.array(1.0, dtype=np.float32),
        np.array([-1, 300], dtype=np.int32),
        np.array([1.0, -2.0], dtype=np.float16),
        np.zeros((200, 0), dtype=np.uint8),
    ]
    golden = bytes.fromhex(
        "c4 7c 0f99fa"  # version 4, fingerprint, CRC
        "06 04 08 04"  # lengths of all but the last
        "000102030405"
        "0000803f"
        "ffffffff 2c010000"
        "003c 00c0"
    )
    assert encode_message(carried, specifications(carried), b"a cut") == golden
    for got, sent in zip(decode_message(golden, specifications(carried), b"a cut"), carried, strict=True):
        np.testing.assert_array_equal(got, sent)


def test_golden_bytes_of_rans():
    some_active = [0] * 2 + [1] * 254
    model = symbol_model(2, [0, 1, 1, 1], [[30000, 2000, 700, 68], [10000, 15000, 7000, 768]] * 2, some_active)
    symbols = (np.arange(24) ** 2 // 5 % 4).astype(np.uint8).reshape(1, 2, 3, 4)
    agreed = [TensorSpecification("uint8", (1, 2, 3, 4), "rans-context", 2, model)]
    golden = bytes.fromhex("c48a3bad37f1e9570b332f02da39d2")
    assert encode_message([symbols], agreed) == golden
    np.testing.assert_array_equal(decode_message(golden, agreed)[0], symbols)


def test_golden_bytes_with_huffman_codes_are_read():
    """Only read: another zlib may choose other codes for the same symbols."""
    sent = np.array([0] * 100 + [1, 2] * 40 + [3] * 20, dtype=np.uint8).reshape(4, 50)
    agreed = specifications([sent], "zlib-huffman")
    golden = sealed(
        agreed,
        bytes.fromhex(
            "05c10101000008c32076fb7716000000000000000000000000a0b5d65a6badb5d65a6badb5d65a6badb5d65a6badb5d65a6bed"
            "eeeeeeeeeeeeeeeeeeee01"
        ),
    )
    np.testing.assert_array_equal(decode_message(golden, agreed)[0], sent)


@pytest.mark.parametrize("associated_data", [b"", b"the hash of a cut"])
def test_messages_are_sealed_as_documented(associated_data):
    carried = [np.arange(5, dtype=np.uint8), np.arange(200, dtype=np.uint8), np.zeros((2, 2), np.float32)]
    for codec in CODEC_NAMES:
        agreed = specifications(carried, codec)
        message = encode_message(carried, agreed, associated_data)
        assert message == sealed(agreed, message[HEADER_BYTES:], associated_data)


@given(carried=many_tensors)
@settings(deadline=None, max_examples=60)
def test_overhead_is_as_documented(carried):
    overhead_bytes = HEADER_BYTES + sum(len(varint(tensor.nbytes)) for tensor in carried[:-1])
    assert len(encode_message(carried, specifications(carried))) == overhead_bytes + sum(
        tensor.nbytes for tensor in carried
    )


@pytest.mark.parametrize("class_count", [1, 3])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("concentration", [0.001, 0.01, 0.1, 1.0, 10.0])
def test_a_message_takes_at_most_8_bytes_above_its_information(bits, class_count, concentration):
    """Header, checksum and coder state within 8 bytes, and 0.1 % for everything else."""
    generator = np.random.default_rng([bits, class_count])
    model = random_model(generator, bits, class_count, concentration)
    for planes in (1, 10, 40, 200):
        symbols = draw(generator, model, (planes, 10, 10))
        agreed = [
            TensorSpecification(
                "uint8", (1, planes, 10, 10), "rans-context" if class_count > 1 else "rans", bits, model
            )
        ]
        message = encode_message([symbols[np.newaxis]], agreed)
        assert len(message) <= 1.001 * information_bytes(symbols, model) + 8
        np.testing.assert_array_equal(decode_message(message, agreed)[0][0], symbols)


# What cannot be agreed on.

ONE = np.zeros(3, np.uint8)
ORDER_0, WITH_CONTEXTS = (random_model(np.random.default_rng(0), 4, count) for count in (1, 2))


@pytest.mark.parametrize(
    ("specification", "match"),
    [
        (TensorSpecification("float64", (3,)), "tensor 0 is float64 with 1 dimensions; a message takes uint8"),
        (TensorSpecification("uint8", (1,) * 9), "9 dimensions"),
        (TensorSpecification("uint8", (-3,)), "not negative"),
        (TensorSpecification("uint8", (2.5,)), "whole numbers"),
        (TensorSpecification("uint8", (3,), "gzip"), "codec 'gzip' is unknown; use one of raw, zlib-huffman, rans"),
        (TensorSpecification("uint8", (3,), "raw", 0), "with 0 bits"),
        (TensorSpecification("uint8", (3,), "raw", 9), "with 9 bits"),
        (TensorSpecification("float32", (3,), "raw", 4), "float32 with 4 bits"),
        (TensorSpecification("uint8", (3,), "raw", 4, ORDER_0), "takes no symbol model"),
        (TensorSpecification("uint8", (3,), "rans", 4), "with no symbol model; codec rans needs"),
        (TensorSpecification("uint8", (3,), "rans-context", 2, ORDER_0), "a model of 4 bits"),
        (TensorSpecification("float32", (3,), "rans", 8, ORDER_0), "codec rans needs uint8"),
        (TensorSpecification("uint8", (3,), "rans", 4, WITH_CONTEXTS), "use rans-context"),
    ],
)
def test_specifications_that_cannot_be_carried_are_refused(specification, match):
    for use in (lambda: encode_message([ONE], [specification]), lambda: decode_message(b"", [specification])):
        with pytest.raises(CoopexportError, match=match):
            use()


def test_a_message_holds_1_to_16_tensors():
    agreed = specifications([ONE])
    for count in (0, 17):
        with pytest.raises(CoopexportError, match=f"1 to 16 tensors, not {count}"):
            encode_message([ONE] * count, agreed * count)
    assert len(decode_message(encode_message([ONE] * 16, agreed * 16), agreed * 16)) == 16


def test_tensors_that_are_not_as_specified_are_not_sent():
    agreed = specifications([ONE])
    with pytest.raises(CoopexportError, match="2 tensors were given, 1 are specified"):
        encode_message([ONE, ONE], agreed)
    for wrong in (ONE[:2], ONE[None], ONE.astype(np.int32), ONE.astype(np.int8)):
        with pytest.raises(CoopexportError, match=r"tensor 0 is .*, specified is uint8 \(3,\): head and tail are not"):
            encode_message([wrong], agreed)


@pytest.mark.parametrize(
    "other",
    [
        TensorSpecification("uint8", (3, 1)),
        TensorSpecification("uint8", (3,), "zlib-huffman"),
        TensorSpecification("uint8", (3,), "raw", 4),
        TensorSpecification("uint8", (3,), "rans", 4, ORDER_0),
        TensorSpecification("uint8", (3,), "rans-context", 4, ORDER_0),
        TensorSpecification("uint8", (3,), "rans-context", 4, WITH_CONTEXTS),
    ],
)
def test_any_other_message_format_is_noticed(other):
    agreed = [TensorSpecification("uint8", (3,))]
    match = "head and tail are not of the same cut"
    assert_refused(encode_message([ONE], agreed), [other], match)
    assert_refused(encode_message([ONE], agreed), agreed * 2, match)
    assert_refused(encode_message([ONE], agreed), agreed, match, associated_data=b"another cut")
    assert_refused(encode_message([ONE], agreed, b"one cut"), agreed, match, associated_data=b"another cut")


def test_another_message_format_with_the_same_fingerprint_is_noticed_by_the_checksum():
    agreed = specifications([ONE])
    seen = {}
    for number in range(10_000):
        associated_data = b"%d" % number
        twin = seen.setdefault(digest_of(agreed, associated_data)[:1], associated_data)
        if twin != associated_data:
            break
    assert_refused(
        encode_message([ONE], agreed, twin), agreed, "checksum does not match", associated_data=associated_data
    )


# What the receiver refuses: accidents.

SMALL = [np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2), np.array([1.5, -2.5], dtype=np.float32)]


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_truncation_is_refused(codec):
    agreed = specifications(SMALL, codec)
    message = encode_message(SMALL, agreed)
    for length in range(len(message)):
        assert_refused(message[:length], agreed, match="truncated")
    assert_refused(b"", agreed, match="truncated: 0 bytes, its header alone has 5")


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_flip_of_a_single_bit_is_refused(codec):
    agreed = specifications(SMALL, codec)
    message = encode_message(SMALL, agreed)
    for position in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[position // 8] ^= 1 << position % 8
        assert_refused(bytes(flipped), agreed)


@given(carried=many_tensors, codec=codecs, data=st.data())
@settings(deadline=None, max_examples=100)
def test_damage_to_any_message_is_refused(carried, codec, data):
    agreed = specifications(carried, codec)
    message = bytearray(encode_message(carried, agreed))
    position = data.draw(st.integers(0, 8 * len(message) - 1))
    message[position // 8] ^= 1 << position % 8
    assert_refused(bytes(message), agreed)
    message[position // 8] ^= 1 << position % 8
    assert_refused(bytes(message[: position // 8]), agreed)
    assert_refused(bytes(message) + data.draw(st.binary(min_size=1, max_size=9)), agreed)


def test_the_reason_says_what_is_wrong_and_how_to_mend_it():
    agreed = specifications(SMALL)
    rest = encode_message(SMALL, agreed)[HEADER_BYTES:]
    assert_refused(b"GET / HTTP/1.1\r\n", agreed, match="does not begin as a message of coopexport does")
    assert_refused(sealed(agreed, rest, first=0xC5), agreed, match="version 5, this side speaks 4: update the older")
    version_3 = bytes.fromhex("c32966e25623e0235cfd01c970b70084fe8010ec7f")
    assert_refused(version_3, agreed, match="version 3, this side speaks 4: update the older")
    version_2 = bytes.fromhex("c2 8662 16abb120 235cfd01c970b70084fe8010ec7f")
    assert_refused(version_2, agreed, match="version 2, this side speaks 4: update the older")
    version_1 = bytes.fromhex("6378010001 9d1f9e0c 000103 03 000102")
    assert_refused(version_1, agreed, match="version 1, this side speaks 4: update the older")
    assert_refused(sealed(agreed, rest, fingerprint=b"\x12"), agreed, match="made for 12, this side expects")


# What the receiver refuses: malice, with a right checksum.

BODY = bytes(512)
TWO = [TensorSpecification("uint8", (1, 128, 2, 2))] * 2
HOSTILE = {
    "no table": b"",
    "no bodies": varint(512),
    "length 0": varint(0) + BODY,
    "length 0 and all bodies": varint(0) + BODY * 2,
    "length one less": varint(511) + BODY * 2,
    "length one more": varint(513) + BODY * 2,
    "all in the first": varint(1024) + BODY * 2,
    "huge length": varint(2**62) + BODY * 2,
    "largest length": varint(2**63 - 1) + BODY * 2,
    "more than there is": varint(1025) + BODY * 2,
    "short bodies": varint(511) + BODY[:-1] * 2,
    "bytes at the end": varint(512) + BODY * 2 + b"\0",
    "varint without end": b"\x80" * 2000,
    "varint of 10 bytes": b"\x80" * 9 + b"\x01" + BODY * 2,
    "varint padded to 10 bytes": b"\x80\x84" + b"\x80" * 7 + b"\x00" + BODY * 2,
    "varint of ones": b"\xff" * 2000,
    "varint cut off": b"\x80",
}


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_tables_are_refused_with_bounded_memory(codec, name):
    model = {"rans": ORDER_0, "rans-context": WITH_CONTEXTS}.get(codec)
    agreed = [row._replace(codec=codec, model=model, bits=4 if model else 8) for row in TWO]
    message = sealed(agreed, HOSTILE[name])
    assert_refused(message, agreed)  # and whatever is made once is made
    with at_most(2 * len(message) + 100_000):
        assert_refused(message, agreed)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no table", "truncated inside its tensor table"),
        ("varint cut off", "truncated inside its tensor table"),
        ("varint without end", "a number in its tensor table does not end"),
        ("varint padded to 10 bytes", "a number in its tensor table does not end"),
        ("huge length", "the tensor table does not add up to its length"),
        ("more than there is", "the tensor table does not add up to its length"),
        ("bytes at the end", "decodes to 512 bytes, 512 were expected|decodes to more than 512 bytes"),
    ],
)
def test_hostile_tables_are_refused_as_early_as_they_can_be(name, reason):
    assert_refused(sealed(TWO, HOSTILE[name]), TWO, match=reason)


def test_a_bomb_is_refused_with_bounded_memory():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(64 << 20)) + compressor.flush()
    agreed = [TensorSpecification("uint8", (1, 128, 2, 2), "zlib-huffman")]
    message = sealed(agreed, bomb)
    with at_most(4 * len(message) + 100_000):
        assert_refused(message, agreed, match="decodes to more than 512 bytes")


def test_sixteen_bombs_are_refused_at_the_first():
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(1 << 20)) + compressor.flush()
    agreed = [TensorSpecification("uint8", (1, 128, 2, 2), "zlib-huffman")] * 16
    message = sealed(agreed, varint(len(bomb)) * 15 + bomb * 16)
    with at_most(2 * len(message) + 100_000):
        assert_refused(message, agreed, match="decodes to more than 512 bytes")


@pytest.mark.parametrize("codec", PLAIN_CODECS)
def test_memory_follows_what_arrived_and_not_what_is_expected(codec):
    """A receiver that rightly expects a terabyte must not allocate it for ten bytes."""
    agreed = [TensorSpecification("uint8", (2**40,), codec)]
    with at_most(200_000):
        assert_refused(sealed(agreed, bytes(10)), agreed)


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_a_right_message_needs_a_few_times_its_size(codec):
    sent = np.zeros((1, 16, 64, 64), dtype=np.uint8)
    agreed = specifications([sent], codec)
    message = encode_message([sent], agreed)
    decode_message(message, agreed)  # whatever is made once is made
    with at_most(len(message) + 3 * sent.nbytes + 100_000):
        decode_message(message, agreed)


@given(message=st.binary(max_size=80))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_refused(message):
    agreed = specifications(SMALL)
    assert_refused(message, agreed)
    assert_refused(b"\xc4" + digest_of(agreed)[:1] + message, agreed)
