"""Frames of the stream between device and edge server, version 1. Big-endian throughout; docs/formats.md.

    offset  bytes  meaning
    0       1      kind
    1       3      length of the body, n
    4       2      sequence number: of the request that this is, or that this answers
    6       2      first number (a request's route, a result's time in the queue, why it is refused)
    8       2      second number (a request's deadline, a result's time of computing)
    10      n      body
    10 + n  4      CRC-32 of all the bytes before, of a request's header only; over plain TCP, not over TLS

So a frame costs 14 bytes over TCP, and over TLS, which finds every change itself, 10 beside TLS's own 22. What a
request carries has a checksum of its own, which reaches further than this one: from encoder to decoder.
"""

import struct
import zlib
from typing import List, NamedTuple, Sequence, Union

from jetson.errors import DamagedFileError, InputError

PREFACE = b"coopstr\x01"  # before the first frame of a client; its last byte is the version
HEADER_BYTES = 10
CHECKSUM_BYTES = 4
MOST_BODY_BYTES = (1 << 24) - 1
SEQUENCES = 1 << 16
LARGEST_NUMBER = (1 << 16) - 1
# Kinds. What a client sends is odd, what a server sends even.
HELLO, WELCOME, REQUEST, RESULT, PROBE, PROBED, REFUSED, CLOSING = 1, 2, 3, 4, 5, 6, 8, 10
_OF_CLIENT, _OF_SERVER = frozenset((HELLO, REQUEST, PROBE)), frozenset((WELCOME, RESULT, PROBED, REFUSED, CLOSING))
_HEADER = struct.Struct("!BBHHHH")
_CHECKSUM = struct.Struct("!I")
Bytes = Union[bytes, bytearray, memoryview]


class Frame(NamedTuple):
    """One frame. `first`, `second`: 0 to 65,535, of a meaning that the kind has."""

    kind: int
    sequence: int
    first: int
    second: int
    body: bytes


def frame_bytes(body_bytes: int, has_checksum: bool) -> int:
    """Return how long a frame is, in bytes."""
    return HEADER_BYTES + body_bytes + (CHECKSUM_BYTES if has_checksum else 0)


def with_checksum(payload: Bytes) -> List[Bytes]:
    """Return what a request carries of a payload that has no checksum of its own, such as a JPEG file: in two parts."""
    return [_CHECKSUM.pack(zlib.crc32(payload)), payload]


def without_checksum(body: bytes) -> bytes:
    """Return the payload that `with_checksum` was given; raises DamagedFileError when it is another."""
    if len(body) < CHECKSUM_BYTES or zlib.crc32(body[CHECKSUM_BYTES:]) != _CHECKSUM.unpack_from(body)[0]:
        raise DamagedFileError("a payload arrived whose checksum is another: bytes were changed on the way")
    return body[CHECKSUM_BYTES:]


def write_frame(
    kind: int, sequence: int, first: int, second: int, body: Sequence[Bytes], has_checksum: bool
) -> List[Bytes]:  # fmt: skip
    """Return the parts of a frame in the order in which they are to be sent; those of `body` are not copied.

    Raises InputError when the body is too long; struct.error for numbers out of range.
    """
    length = sum(len(part) for part in body)
    if length > MOST_BODY_BYTES:
        raise InputError("a frame holds at most {:,} bytes, not {:,}".format(MOST_BODY_BYTES, length))
    header = _HEADER.pack(kind, length >> 16, length & 0xFFFF, sequence, first, second)
    parts: List[Bytes] = [header]
    parts.extend(body)
    if has_checksum:
        checksum = zlib.crc32(header)
        for part in body if kind != REQUEST else ():
            checksum = zlib.crc32(part, checksum)
        parts.append(_CHECKSUM.pack(checksum))
    return parts


class FrameReader:
    """Takes bytes as they arrive and gives the frames in them; holds at most one frame that is not whole.

    `most_body_bytes`: longer frames are refused as soon as their header is there. `from_server`: whose kinds are read.
    """

    def __init__(self, most_body_bytes: int, has_checksum: bool, from_server: bool) -> None:
        self.most_body_bytes = most_body_bytes
        self._has_checksum = has_checksum
        self._kinds = _OF_SERVER if from_server else _OF_CLIENT
        self._pending = bytearray()

    def feed(self, data: Bytes) -> List[Frame]:
        """Return the frames that `data` completes, in order.

        Raises DamagedFileError for a kind that the other side does not send, a frame too long, and a checksum that is
        another: what follows cannot be told apart any more, so that the connection has to be closed.
        """
        pending = self._pending
        pending += data
        frames: List[Frame] = []
        offset = 0
        tail_bytes = CHECKSUM_BYTES if self._has_checksum else 0
        while len(pending) - offset >= HEADER_BYTES:
            kind, high, low, sequence, first, second = _HEADER.unpack_from(pending, offset)
            length = (high << 16) | low
            if kind not in self._kinds:
                raise DamagedFileError("a frame of kind {} arrived, which the other side never sends".format(kind))
            if length > self.most_body_bytes:
                raise DamagedFileError(
                    "a frame of {:,} bytes arrived, agreed are at most {:,}".format(length, self.most_body_bytes)
                )
            end = offset + HEADER_BYTES + length
            if len(pending) < end + tail_bytes:
                break
            if self._has_checksum:
                upto = offset + HEADER_BYTES if kind == REQUEST else end
                with memoryview(pending) as view, view[offset:upto] as covered:
                    found = zlib.crc32(covered)
                if found != _CHECKSUM.unpack_from(pending, end)[0]:
                    raise DamagedFileError("a frame arrived whose checksum is another: bytes were changed on the way")
            frames.append(Frame(kind, sequence, first, second, bytes(pending[offset + HEADER_BYTES : end])))
            offset = end + tail_bytes
        if offset:
            del pending[:offset]
        return frames

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._pending)
