"""A measured link whose numbers are made up, for tests of what comes after measuring."""

from __future__ import annotations

import statistics

from benchmarks.links.measurement import Direction, LinkMeasurement, Messages
from benchmarks.links.windows import Window, goodput_of


def direction(*rates_bps: float) -> Direction:
    found = tuple((round(rate / 32), 0.25) for rate in rates_bps)
    return Direction(windows=found, goodput_bps=goodput_of([Window(*one) for one in found]).median_bps)


def measured_link(from_bps: float = 2e6, to_bps: float = 8e6, message_ms: float = 40.0) -> LinkMeasurement:
    samples_ms = tuple(message_ms + step / 100 for step in range(-35, 36))
    return LinkMeasurement(
        device="me@nano",
        host="edge",
        started_at="2026-01-02T03:04:05+00:00",
        from_device=direction(*[from_bps] * 8),
        to_device=direction(*[to_bps] * 8),
        messages=Messages(
            message_bytes=64, packet_bytes=152, p50_ms=statistics.median(samples_ms), samples_ms=samples_ms
        ),
    )
