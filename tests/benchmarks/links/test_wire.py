"""Bytes on the wire against what was published, and against what the kernel's own TCP sends."""

from __future__ import annotations

import math
import socket
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.links.wire import FRAMINGS, Protocol, wire_bytes
from jetson.errors import InputError
from jetson.stream.packets import SEGMENT_HEADER_BYTES, packet_bytes

TIMESTAMPS = Path("/proc/sys/net/ipv4/tcp_timestamps")
# struct tcp_info of linux/tcp.h: tcpi_snd_mss, tcpi_data_segs_out.
SEND_MSS_AT, DATA_SEGMENTS_AT = 16, 156


def test_a_small_payload_at_3g_takes_what_was_measured_for_it() -> None:
    """62 bytes at 1.1 Mbit/s: 0.45 ms alone, 5.5 ms within HTTP."""
    assert 8000 * wire_bytes(62, 0, "none") / 1.1e6 == pytest.approx(0.45, abs=0.005)
    assert 8000 * wire_bytes(62, 0, "http") / 1.1e6 == pytest.approx(5.5, abs=0.05)


@pytest.mark.parametrize(
    ("protocol", "request_bytes", "reply_bytes"),
    [("http", 371, 276), ("grpc", 147, 95), ("grpc-stream", 131, 115), ("framed", 62 + 32, 32)],
)
def test_the_measured_message_is_what_was_measured(protocol: Protocol, request_bytes: int, reply_bytes: int) -> None:
    assert wire_bytes(62, 0, protocol) == request_bytes + reply_bytes + 2 * SEGMENT_HEADER_BYTES


@pytest.mark.skipif(
    not TIMESTAMPS.exists() or TIMESTAMPS.read_text().strip() == "0", reason="left out: TCP without timestamps"
)
@pytest.mark.parametrize("size", [1, 1448, 1449, 20_000, 123_456])
def test_segments_are_as_many_as_the_kernel_sends(size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        drained = threading.Thread(target=_drain, args=(listener,), daemon=True)
        drained.start()
        with socket.socket() as sender:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)  # of an Ethernet frame of 1500 bytes
            sender.connect(listener.getsockname())
            sender.sendall(bytes(size))
            sender.shutdown(socket.SHUT_WR)
            drained.join()
            info = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    (mss,) = struct.unpack_from("I", info, SEND_MSS_AT)
    (segments,) = struct.unpack_from("I", info, DATA_SEGMENTS_AT)
    assert 1500 - mss == SEGMENT_HEADER_BYTES
    # The kernel may send a segment before the next bytes have come to fill it.
    assert packet_bytes(size) <= size + segments * SEGMENT_HEADER_BYTES <= packet_bytes(size) * 1.02 + 52


def _drain(listener: socket.socket) -> None:
    with listener.accept()[0] as connection:
        while connection.recv(1 << 16):
            pass


@given(st.floats(1, 1e7), st.floats(0, 1e5), st.sampled_from(sorted(FRAMINGS)))
def test_nothing_is_free_and_more_is_never_less(payload: float, reply: float, protocol: Protocol) -> None:
    total = wire_bytes(payload, reply, protocol)
    assert total >= payload + reply + 2 * SEGMENT_HEADER_BYTES
    assert total <= 1.04 * (payload + reply) + 1000
    assert wire_bytes(payload + 100, reply, protocol) >= total + 100 - 1e-6
    assert wire_bytes(payload, reply + 100, protocol) >= total + 100 - 1e-6


def test_long_messages_of_http_2_have_more_frames() -> None:
    assert wire_bytes(3 * 16_384, 0, "grpc") - wire_bytes(3 * 16_384 - 1, 0, "grpc") == 1
    assert wire_bytes(3 * 16_384 + 1, 0, "grpc") - wire_bytes(3 * 16_384, 0, "grpc") == 1 + 9


def test_where_nothing_crosses_nothing_is_added() -> None:
    assert {wire_bytes(0, 40, protocol) for protocol in (*FRAMINGS, "none")} == {0.0}  # type: ignore[arg-type]
    assert wire_bytes(1234.5, 40, "none") == 1234.5


@pytest.mark.parametrize("sizes", [(-1, 0), (math.nan, 0), (10, math.inf), (10, -2)])
def test_what_is_no_size_is_refused(sizes: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not both sizes"):
        wire_bytes(*sizes)


def test_another_protocol_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r'^there is no protocol "grcp"; known here: grpc$'):
        wire_bytes(1, 1, "grcp")  # type: ignore[arg-type]
