"""Measuring a link over ssh, before any server exists: small messages, then bulk in both directions."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from benchmarks.latency.statistics import summarise
from benchmarks.links.measurement import Direction, LinkMeasurement, Messages
from benchmarks.links.windows import Window, goodput_of, is_steady
from benchmarks.links.wire import ssh_bytes
from engines.device_builds.link_streams import OnMark, receive_bulk, send_bulk, time_messages
from exporter.progress import OnProgress, no_progress
from jetson.errors import DeviceError, InputError
from jetson.stream.packets import packet_bytes

WINDOW_S = 0.25
# Of a link that is too slow for them in its time: a packet of ssh holds up to 32 KiB.
_LEAST_WINDOWS = 3
_PATIENCE = 6.0
_LONGEST_MESSAGE_BYTES = 32_768
_Bulk = Callable[[str, OnMark, float, float], None]


@dataclass(frozen=True)
class LinkProbeRequest:
    """Which link, and how long to measure.

    `device`: "user@host" or "user@host:port". `seconds`: at most, for the messages and for each direction; six times as
    long on a link that is too slow for three windows in that time. `messages` of `message_bytes` bytes each.
    """

    device: str
    seconds: float = 10.0
    message_bytes: int = 64
    messages: int = 100


def probe_link(request: LinkProbeRequest, on_progress: OnProgress = no_progress) -> LinkMeasurement:
    """Measure the link to a device that has nothing but an ssh server and python3; nothing is copied there.

    Raises CoopexportError when the device cannot be reached or has no python3, the connection is lost, or the link is
    too slow to be measured.
    """
    _check(request)
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    on_progress("timing messages", 0, 3)
    samples_ms = time_messages(request.device, request.message_bytes, request.messages, request.seconds)
    if not samples_ms:
        raise DeviceError(f"no message came back from {request.device} in {request.seconds:g} s")
    on_progress("measuring what arrives from the device", 1, 3)
    from_device = _direction(request, "from", receive_bulk)
    on_progress("measuring what arrives at the device", 2, 3)
    to_device = _direction(request, "to", send_bulk)
    on_progress("measuring what arrives at the device", 3, 3)
    one_way = int(packet_bytes(ssh_bytes(request.message_bytes)))
    messages = Messages(
        message_bytes=request.message_bytes,
        packet_bytes=one_way,
        p50_ms=summarise(samples_ms).p50_ms,
        samples_ms=tuple(samples_ms),
    )
    return LinkMeasurement(
        device=request.device,
        host=platform.node(),
        started_at=started_at,
        from_device=from_device,
        to_device=to_device,
        messages=messages,
    )


def _direction(request: LinkProbeRequest, name: Literal["from", "to"], bulk: _Bulk) -> Direction:
    windows: list[Window] = []
    before = Window(0, 0.0)

    def on_mark(total: int, seconds: float) -> bool:
        nonlocal before
        if total > before.bytes:
            windows.append(Window(total - before.bytes, seconds - before.seconds))
        before = Window(total, seconds)
        return is_steady(windows) or (seconds >= request.seconds and len(windows) >= _LEAST_WINDOWS)

    bulk(request.device, on_mark, min(WINDOW_S, request.seconds / 40), _PATIENCE * request.seconds)
    if len(windows) < _LEAST_WINDOWS:
        raise DeviceError(
            f"the link is too slow to be measured: {before.bytes:,} bytes arrived {name} {request.device} in "
            f"{_PATIENCE * request.seconds:g} s",
            fix="measure for longer (--seconds)",
        )
    return Direction(windows=tuple(tuple(one) for one in windows), goodput_bps=goodput_of(windows).median_bps)


def _check(request: LinkProbeRequest) -> None:
    if not (math.isfinite(request.seconds) and request.seconds > 0):
        raise InputError(f"seconds is {request.seconds:g}, not a time to measure for")
    if not 1 <= request.message_bytes <= _LONGEST_MESSAGE_BYTES:
        raise InputError(
            f"message_bytes is {request.message_bytes}, not from 1 to {_LONGEST_MESSAGE_BYTES}, what ssh sends at once"
        )
    if request.messages < 1:
        raise InputError(f"messages is {request.messages}, not at least 1")
