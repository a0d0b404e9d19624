"""One way to run the network, and how long it takes: computation on both machines, and what crosses between them.

The latency model of Shi et al. 2019 (2-step pruning): computation up to the cut on the device, then what crosses over
the link, then the rest on the edge. Full offload (cut at the input) and the device alone (cut at the output) are
candidates like any other. Beside the paper's payload, all bytes that cross and the link's round trip can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jetson.runtime import partition_policy

# As a device reads them in the plan.
INPUT, OUTPUT, BYTE_MS = partition_policy.INPUT, partition_policy.OUTPUT, partition_policy.BYTE_MS

# Where a time comes from: measured on the machine that it is for; measured here and multiplied by the slowdown;
# computed from the times of other parts.
Origin = Literal["measured", "scaled", "predicted"]


def joined(*words: str) -> str:
    """Return those words that say something, commas between."""
    return ", ".join(filter(None, words))


@dataclass(frozen=True)
class Candidate:
    """One way to run the network.

    `layer`: where it is cut, `input` for all on the edge, `output` for all on the device. `coding`: what crosses.
    `payload_bytes`: mean message, 0 where nothing crosses. `device_ms` and `edge_ms`: medians, the device's already
    in its own, slower time. `loss_points`: how far its metric lies below the reference, in points. `reason` is
    empty, or says why the candidate cannot be chosen; `device_ms` and `edge_ms` are None where they are not known.
    `family`: what it is compared as with others, empty for its variant. `wire_bytes`: all bytes that cross, with reply
    and protocol; None for the payload alone. `device_origin`, `edge_origin`: where the times come
    from, None where that is not said; `note`: what else is to be said of them. `device_memory_bytes`, `device_mj`:
    peak memory, and energy of one run, on the device, None where they were not measured. `precision`: of what computes;
    `batch`: images that are computed at once. Times, bytes and energy are those of the whole batch.
    """

    variant: str
    layer: str
    coding: str
    payload_bytes: float
    device_ms: float | None
    edge_ms: float | None
    metric: float
    loss_points: float
    reason: str = ""
    family: str = ""
    wire_bytes: float | None = None
    device_origin: Origin | None = None
    edge_origin: Origin | None = None
    note: str = ""
    device_memory_bytes: float | None = None
    device_mj: float | None = None
    precision: str = "fp32"
    batch: int = 1

    @property
    def compared_as(self) -> str:
        """Return the family that the candidate's variant belongs to, or the variant itself."""
        return self.family or self.variant

    @property
    def form(self) -> str:
        """Return precision and batch in words; float32 and a batch of 1 go without saying."""
        return joined(
            "" if self.precision == "fp32" else self.precision, "" if self.batch == 1 else f"batch of {self.batch}"
        )

    @property
    def crossing_bytes(self) -> float:
        """Return all bytes that cross: `wire_bytes`, or the payload where they are not given."""
        return self.payload_bytes if self.wire_bytes is None else self.wire_bytes


def describe(candidate: Candidate) -> str:
    """Return a candidate in a few words, for tables."""
    return joined(_where(candidate), candidate.form)


def _where(candidate: Candidate) -> str:
    if candidate.layer == OUTPUT:
        return f"{candidate.variant}, all on the device"
    if candidate.layer == INPUT:
        return f"{candidate.variant}, all on the edge ({candidate.coding})"
    return f"{candidate.variant}, cut after {candidate.layer} ({candidate.coding})"


def transmission_ms(candidate: Candidate, goodput_bps: float, round_trip_ms: float = 0.0) -> float:
    """Return how long the link takes, in milliseconds: all bytes at `goodput_bps`, and a round trip if any cross."""
    crossing_ms = BYTE_MS * candidate.crossing_bytes / goodput_bps
    return crossing_ms + (round_trip_ms if candidate.crossing_bytes > 0 else 0.0)


def latency_ms(candidate: Candidate, goodput_bps: float, round_trip_ms: float = 0.0) -> float:
    """Return the end-to-end latency in milliseconds at `goodput_bps` (bits per second; bytes are multiplied by 8).

    `round_trip_ms`: of the link, spent once where anything crosses. Raises ValueError for a candidate whose times are
    not known.
    """
    if candidate.device_ms is None or candidate.edge_ms is None:
        raise ValueError(f"the latency of {candidate} is not known")
    return candidate.device_ms + transmission_ms(candidate, goodput_bps, round_trip_ms) + candidate.edge_ms
