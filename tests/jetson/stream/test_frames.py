"""Frames: what is written is read, whatever pieces it arrives in; anything else is refused or is not whole yet."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetson.errors import DamagedFileError, InputError
from jetson.stream import frames
from jetson.stream.frames import Frame, FrameReader, frame_bytes, write_frame

NUMBERS = st.integers(0, 65_535)
SERVER_FRAMES = st.builds(
    Frame,
    st.sampled_from([frames.WELCOME, frames.RESULT, frames.PROBED, frames.REFUSED, frames.CLOSING]),
    NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=300),
)  # fmt: skip
CLIENT_FRAMES = st.builds(
    Frame, st.sampled_from([frames.HELLO, frames.REQUEST, frames.PROBE]), NUMBERS, NUMBERS, NUMBERS,
    st.binary(max_size=300),
)  # fmt: skip


def written(frame: Frame, has_checksum: bool) -> bytes:
    parts = write_frame(frame.kind, frame.sequence, frame.first, frame.second, [frame.body], has_checksum)
    return b"".join(bytes(part) for part in parts)


@given(st.lists(SERVER_FRAMES, max_size=5), st.booleans(), st.integers(1, 400))
def test_what_is_written_is_read_in_pieces_of_any_size(sent, has_checksum, piece):
    data = b"".join(written(frame, has_checksum) for frame in sent)
    reader = FrameReader(1000, has_checksum, from_server=True)
    found = [frame for start in range(0, len(data), piece) for frame in reader.feed(data[start : start + piece])]
    assert found == sent
    assert reader.pending_bytes == 0


@given(CLIENT_FRAMES, st.data())
def test_every_changed_bit_of_a_frame_is_found_but_those_of_a_requests_body(frame, data):
    whole = bytearray(written(frame, True))
    covered = [*range(frames.HEADER_BYTES), *range(len(whole) - 4, len(whole))]
    if frame.kind != frames.REQUEST:
        covered = list(range(len(whole)))
    place = data.draw(st.sampled_from(covered))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    reader = FrameReader(1 << 20, True, from_server=False)
    try:
        found = reader.feed(bytes(whole))
    except DamagedFileError:
        return
    assert found == []  # the length grew: the rest is waited for, until the connection is given up


@given(st.binary(max_size=200), st.data())
def test_a_payload_without_a_checksum_of_its_own_gets_one_that_finds_every_changed_bit(payload, data):
    body = b"".join(frames.with_checksum(payload))
    assert frames.without_checksum(body) == payload
    place = data.draw(st.integers(0, 8 * len(body) - 1))
    changed = bytearray(body)
    changed[place // 8] ^= 1 << place % 8
    with pytest.raises(DamagedFileError, match="changed on the way"):
        frames.without_checksum(bytes(changed))
    with pytest.raises(DamagedFileError):
        frames.without_checksum(body[:3])


def test_the_layout_is_the_documented_one():
    data = written(Frame(frames.RESULT, 258, 3, 4, b"xyz"), True)
    assert data[:10] == bytes([4, 0, 0, 3, 1, 2, 0, 3, 0, 4])
    assert data[10:13] == b"xyz"
    assert struct.unpack("!I", data[13:])[0] == zlib.crc32(data[:13])
    assert len(data) == frame_bytes(3, True) == 17
    assert frame_bytes(3, False) == 13


def test_a_request_costs_at_most_32_bytes_over_tcp_and_over_tls():
    # TLS 1.3: 5 of a record's header, 1 of its type, 16 of its tag (RFC 8446, 5.2).
    assert frame_bytes(0, True) <= 32
    assert frame_bytes(0, False) + 22 <= 32


@pytest.mark.parametrize("kind", [frames.HELLO, 0, 7, 255])
def test_a_kind_that_the_other_side_never_sends_is_refused(kind):
    reader = FrameReader(100, True, from_server=True)
    with pytest.raises(DamagedFileError, match="never sends"):
        reader.feed(bytes([kind]) + bytes(9))


def test_a_frame_too_long_is_refused_by_its_header_alone():
    reader = FrameReader(100, True, from_server=True)
    with pytest.raises(DamagedFileError, match="101 bytes"):
        reader.feed(struct.pack("!BBHHHH", frames.RESULT, 0, 101, 0, 0, 0))
    with pytest.raises(InputError, match="16,777,215"):
        write_frame(frames.RESULT, 0, 0, 0, [bytes(1 << 24)], True)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_refused_or_read_and_never_held_beyond_one_frame(data, has_checksum, from_server):
    reader = FrameReader(64, has_checksum, from_server)
    try:
        for frame in reader.feed(data):
            assert len(frame.body) <= 64
    except DamagedFileError:
        return
    assert reader.pending_bytes < frame_bytes(64, has_checksum)
