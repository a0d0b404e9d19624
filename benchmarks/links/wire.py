"""Bytes on the wire: what a request and its reply take on a warm connection, with protocol and TCP/IP."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import get_args

from exporter.project.link_section import Protocol
from jetson.errors import InputError
from jetson.stream.packets import packet_bytes

# HTTP/2 sends what is longer than 16,384 bytes in several frames, with a header of 9 bytes each (RFC 9113, 4.1, 6.5.2).
_FRAME_BYTES, _FRAME_HEADER_BYTES = 16_384, 9


@dataclass(frozen=True)
class Framing:
    """Bytes that a protocol adds to a request and to its reply. `in_frames`: it sends long messages as HTTP/2 does."""

    request_bytes: int
    reply_bytes: int
    in_frames: bool
    source: str


# Measured with a payload of 62 bytes. The measured replies held an output of a few bytes, which is not subtracted: a
# reply counts as that much too long.
_MEASURED = "Open Inference Protocol, a request of 62 bytes to a real Triton, bytes counted without TCP/IP"
FRAMINGS: dict[Protocol, Framing] = {
    "framed": Framing(32, 32, False, "at most, each way: length, release and cut"),
    "http": Framing(371 - 62, 276, False, _MEASURED),
    "grpc": Framing(147 - 62, 95, True, _MEASURED),
    "grpc-stream": Framing(131 - 62, 115, True, _MEASURED),
}


def wire_bytes(payload_bytes: float, reply_bytes: float, protocol: Protocol = "framed") -> float:
    """Return the bytes that cross for one request and its reply on a warm connection, as IP packets.

    `payload_bytes`, `reply_bytes`: of messages, means as well. Counted are the protocol's framing and the headers of
    TCP and IPv4, one of each per segment of at most 1448 bytes. Not counted are acknowledgements without data,
    retransmissions, and the link layer's headers: a measured goodput is lower for them. "none" is the model of Shi et
    al. 2019: the payload alone. Where nothing crosses (no payload) it is 0. Raises InputError for an unknown protocol,
    ValueError for sizes that are none.
    """
    if not all(math.isfinite(size) and size >= 0 for size in (payload_bytes, reply_bytes)):
        raise ValueError(f"{payload_bytes} and {reply_bytes} are not both sizes in bytes")
    if protocol not in get_args(Protocol):
        near = difflib.get_close_matches(str(protocol), get_args(Protocol), n=1) or get_args(Protocol)
        raise InputError(f'there is no protocol "{protocol}"', fix=f"known here: {', '.join(near)}")
    if protocol == "none" or payload_bytes == 0:
        return float(payload_bytes)
    framing = FRAMINGS[protocol]
    return _packets(payload_bytes, framing.request_bytes, framing) + _packets(reply_bytes, framing.reply_bytes, framing)


def _packets(message_bytes: float, added_bytes: int, framing: Framing) -> float:
    total = message_bytes + added_bytes
    if framing.in_frames:
        total += _FRAME_HEADER_BYTES * (math.ceil(message_bytes / _FRAME_BYTES) - 1 if message_bytes > 0 else 0)
    return packet_bytes(total)


def ssh_bytes(message_bytes: int) -> int:
    """Return the length of the ssh packet for `message_bytes` of a channel, with OpenSSH's first cipher.

    Length (4); padding's length (1), message type, channel and length (9), data, and at least 4 bytes of padding,
    together a multiple of 8; authentication code (16): RFC 4253, section 6; RFC 4254, section 5.2; OpenSSH's
    PROTOCOL.chacha20poly1305.
    """
    return 4 + 8 * math.ceil((1 + 9 + message_bytes + 4) / 8) + 16
