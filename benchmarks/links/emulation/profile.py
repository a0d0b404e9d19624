"""What an emulated link is like."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jetson.errors import InputError


@dataclass(frozen=True)
class LinkProfile:
    """A link while nothing changes. `delay_ms`: of one direction; `jitter_ms`: up to so much more, evenly drawn.

    `rate_bps`: of either direction, bits of IP packets per second; infinite for none. `queue_bytes`: what waits before
    the link at most; then nothing more is read. `is_up`: False for an outage, in which nothing arrives.
    """

    rate_bps: float = math.inf
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    queue_bytes: int = 256_000
    is_up: bool = True

    def __post_init__(self) -> None:
        if not self.rate_bps > 0 or self.delay_ms < 0 or self.jitter_ms < 0:
            raise InputError(
                f"a link of {self.rate_bps} bit/s, {self.delay_ms} ms and {self.jitter_ms} ms of jitter cannot be",
                fix="give a positive rate, and delays from 0 on",
            )


@dataclass
class Wire:
    """One direction: bytes leave one after the other, at the rate of the moment they began to."""

    free_at_s: float = 0.0

    def departs_s(self, wire_bytes: float, rate_bps: float, now_s: float) -> float:
        """Return when the last bit of a packet leaves that is handed over now, and occupy the wire until then."""
        begin_s = max(now_s, self.free_at_s)
        self.free_at_s = begin_s + (8.0 * wire_bytes / rate_bps if math.isfinite(rate_bps) else 0.0)
        return self.free_at_s
