"""Which of device, edge and split is fastest, by slowdown and goodput, with the bytes that a protocol adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, latency_ms

Way = Literal["device", "edge", "split"]
FRAMING_BYTES = 32
TCP_IP_BYTES = 40  # TCP and IPv4 without options, one segment
OUTPUT_BYTES = 40  # ten float32


@dataclass(frozen=True)
class Fastest:
    """The fastest candidates at one slowdown and goodput, each None where none keeps the bound.

    `competitor`: of device and edge; `split`: of the cuts; times in milliseconds.
    """

    competitor: Candidate
    competitor_ms: float
    split: Candidate | None
    split_ms: float

    @property
    def gain(self) -> float:
        """Return how many times faster the split is than the better of device and edge."""
        return self.competitor_ms / self.split_ms

    @property
    def way(self) -> Way:
        """Return which way is fastest."""
        return "split" if self.gain > 1 else way_of(self.competitor)


def way_of(candidate: Candidate) -> Way:
    """Return where a candidate runs."""
    return "device" if candidate.layer == OUTPUT else "edge" if candidate.layer == INPUT else "split"


def on_the_wire(candidate: Candidate) -> Candidate:
    """Return a candidate with all the bytes of a request and its reply, where there are any."""
    if way_of(candidate) == "device":
        return candidate
    protocol = 2 * (FRAMING_BYTES + TCP_IP_BYTES) + OUTPUT_BYTES
    return replace(candidate, payload_bytes=candidate.payload_bytes + protocol)


def fastest(
    candidates: Sequence[Candidate], assumed_slowdown: float, slowdown: float, goodput_bps: float,
    may_split: Callable[[Candidate], bool] = lambda _: True,
) -> Fastest:  # fmt: skip
    """Return the fastest without and with a cut, of the candidates that keep the bound.

    `assumed_slowdown`: the one that their device times are for. A cut counts where `may_split` allows its candidate.
    Raises ValueError when no candidate without a cut keeps the bound.
    """

    def ms(candidate: Candidate) -> float:
        scaled = replace(candidate, device_ms=(candidate.device_ms or 0.0) * slowdown / assumed_slowdown)
        return latency_ms(on_the_wire(scaled), goodput_bps)

    allowed = [candidate for candidate in candidates if not candidate.reason]
    competitor = min((one for one in allowed if way_of(one) != "split"), key=ms)
    splits = [one for one in allowed if way_of(one) == "split" and may_split(one)]
    split = min(splits, key=ms, default=None)
    return Fastest(competitor, ms(competitor), split, float("inf") if split is None else ms(split))
