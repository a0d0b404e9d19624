"""Bytes of the IP packets that carry a stream's bytes."""

import math

# IPv4 (20) and TCP (20) with the timestamp option (12), RFC 7323: Linux, which runs on Jetsons and on most servers,
# sends it with every segment (net.ipv4.tcp_timestamps is 1). Without it there would be 40.
SEGMENT_HEADER_BYTES = 52
# What an Ethernet frame's 1500 bytes leave beside that.
SEGMENT_PAYLOAD_BYTES = 1500 - SEGMENT_HEADER_BYTES


def packet_bytes(stream_bytes: float) -> float:
    """Return the bytes of IP packets for `stream_bytes` that TCP sends at once."""
    return stream_bytes + SEGMENT_HEADER_BYTES * math.ceil(stream_bytes / SEGMENT_PAYLOAD_BYTES)
