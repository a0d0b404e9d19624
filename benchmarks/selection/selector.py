"""Choose variant, cut and coding: least end-to-end latency under an accuracy bound, for one goodput and for all.

The latency model of Shi et al. 2019 (2-step pruning): computation up to the cut on the device, which is
`device_slowdown` times slower than the edge, then the payload over the link, then the rest on the edge. Full offload
(cut at the input) and the device alone (cut at the output) are candidates like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.bundles.accuracy_bound import keeps_bound
from jetson.errors import InputError

INPUT, OUTPUT = "input", "output"
BITS_PER_BYTE = 8


@dataclass(frozen=True)
class Candidate:
    """One way to run the network.

    `layer`: where it is cut, `input` for all on the edge, `output` for all on the device. `coding`: what crosses.
    `payload_bytes`: mean message, 0 where nothing crosses. `device_ms` and `edge_ms`: medians, the device's already
    in its own, slower time. `loss_points`: how far its metric lies below the reference, in points. `reason` is
    empty, or says why the candidate cannot be chosen; `device_ms` and `edge_ms` are None where they are not known.
    `family`: what it is compared as with others, empty for its variant.
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

    @property
    def compared_as(self) -> str:
        """Return the family that the candidate's variant belongs to, or the variant itself."""
        return self.family or self.variant


@dataclass(frozen=True)
class Interval:
    """Goodputs from `from_bps` up to `upto_bps` (None: infinity) at which candidate number `candidate` is best."""

    from_bps: float
    upto_bps: float | None
    candidate: int


@dataclass(frozen=True)
class LinkChoice:
    """The best candidate on one link, and its latency there."""

    link: str
    goodput_bps: float
    candidate: int
    latency_ms: float


@dataclass(frozen=True)
class Selection:
    """What `select` decided: all candidates (those left out with their reasons), intervals, and named links."""

    candidates: tuple[Candidate, ...]
    intervals: tuple[Interval, ...]
    links: tuple[LinkChoice, ...]


def describe(candidate: Candidate) -> str:
    """Return a candidate in a few words, for tables."""
    if candidate.layer == OUTPUT:
        return f"{candidate.variant}, all on the device"
    if candidate.layer == INPUT:
        return f"{candidate.variant}, all on the edge ({candidate.coding})"
    return f"{candidate.variant}, cut after {candidate.layer} ({candidate.coding})"


def latency_ms(candidate: Candidate, goodput_bps: float) -> float:
    """Return the end-to-end latency in milliseconds at `goodput_bps` (bits per second; bytes are multiplied by 8).

    Raises ValueError for a candidate whose times are not known.
    """
    if candidate.device_ms is None or candidate.edge_ms is None:
        raise ValueError(f"the latency of {candidate} is not known")
    transmission_ms = 1000.0 * BITS_PER_BYTE * candidate.payload_bytes / goodput_bps
    return candidate.device_ms + transmission_ms + candidate.edge_ms


def select(candidates: Sequence[Candidate], goodput_bps: Mapping[str, float], maximum_loss_points: float) -> Selection:
    """Return the best candidate for each link and for every goodput.

    `goodput_bps`: bits per second by link name. Candidates that lose more than `maximum_loss_points` are
    left out with that reason. Raises CoopexportError when none is left.
    """
    judged = tuple(_judged(candidate, maximum_loss_points) for candidate in candidates)
    allowed = [index for index, candidate in enumerate(judged) if not candidate.reason]
    if not allowed:
        reasons = "; ".join(dict.fromkeys(candidate.reason for candidate in judged)) or "there are no candidates"
        raise InputError(f"no candidate is left to choose from: {reasons}")
    links = []
    for name, goodput in goodput_bps.items():
        best = min(allowed, key=lambda index: (latency_ms(judged[index], goodput), judged[index].loss_points))
        links.append(LinkChoice(name, goodput, best, latency_ms(judged[best], goodput)))
    return Selection(judged, lower_envelope(judged, allowed), tuple(links))


def _judged(candidate: Candidate, maximum_loss_points: float) -> Candidate:
    reason = candidate.reason
    numbers = (candidate.device_ms, candidate.edge_ms, candidate.payload_bytes, candidate.loss_points)
    if not reason and any(number is None or not math.isfinite(number) for number in numbers):
        reason = "not measured"
    if not reason and not keeps_bound(candidate.loss_points, maximum_loss_points):
        reason = f"loses {candidate.loss_points:.2f} points, the limit is {maximum_loss_points:g}"
    return Candidate(**{**vars(candidate), "reason": reason})


def lower_envelope(candidates: Sequence[Candidate], allowed: Sequence[int]) -> tuple[Interval, ...]:
    """Return which candidate is best at each goodput, from the lowest goodput to the highest.

    With x = 1 / goodput every latency is a straight line: start at x = 0 with the least computation, and go on
    to the first line with a smaller payload that crosses the current one. Where lines are the same, the smaller loss
    wins, as in `select`.
    """
    fixed = {i: (candidates[i].device_ms or 0.0) + (candidates[i].edge_ms or 0.0) for i in allowed}
    slope = {i: 1000.0 * BITS_PER_BYTE * candidates[i].payload_bytes for i in allowed}
    loss = {i: candidates[i].loss_points for i in allowed}
    current = min(allowed, key=lambda i: (fixed[i], slope[i], loss[i]))
    upto_bps: float | None = None
    intervals: list[Interval] = []
    while True:
        crossings = [
            ((fixed[i] - fixed[current]) / (slope[current] - slope[i]), slope[i], loss[i], i)
            for i in allowed
            if slope[i] < slope[current]
        ]
        if not crossings:
            break
        inverse_goodput, _, _, following = min(crossings)
        switch_bps = 1.0 / inverse_goodput if inverse_goodput > 0 else math.inf
        # Where three lines meet, rounding can put this crossing before the last one: then nothing lies between them.
        if switch_bps < (math.inf if upto_bps is None else upto_bps):
            intervals.append(Interval(switch_bps, upto_bps, current))
            upto_bps = switch_bps
        current = following
    intervals.append(Interval(0.0, upto_bps, current))
    return tuple(reversed(intervals))
