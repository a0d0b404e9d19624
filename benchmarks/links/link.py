"""What a plan knows of a link."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jetson.errors import InputError


@dataclass(frozen=True)
class Link:
    """A link from the device to the edge.

    `goodput_bps`: bits per second of an application's bytes that arrive. `round_trip_ms`: of a small message, without
    the transmission of its bytes; 0 where it is not known. `loss`: share of packets that are lost, None where it is not
    known; it is shown and enters no latency: what retransmissions cost is part of a measured goodput. `source`: in
    words, where the numbers come from. Raises InputError for a goodput that is not a positive number, and the like.
    """

    name: str
    goodput_bps: float
    round_trip_ms: float = 0.0
    loss: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that no link has."""
        if not (math.isfinite(self.goodput_bps) and self.goodput_bps > 0):
            raise InputError(
                f"the goodput of {self.name} is {self.goodput_bps:g}, not a positive number of bits per second"
            )
        if not (math.isfinite(self.round_trip_ms) and self.round_trip_ms >= 0):
            raise InputError(f"the round trip of {self.name} is {self.round_trip_ms:g} ms, not a number of at least 0")
        if self.loss is not None and not 0 <= self.loss < 1:
            raise InputError(f"the loss of {self.name} is {self.loss:g}, not a share of packets from 0 to 1")
