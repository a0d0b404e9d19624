"""Which way a device goes now: the plan's own model and rule, on the link as it is, of what both sides can carry out.

The plan's intervals hold for the round trips that it was made for, and for all of its candidates. A device knows its
round trip, and may lack an engine: so it computes the latencies of the few candidates that it has, which is as quick.
"""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from jetson.client.link_estimate import LinkState
from jetson.runtime.partition_policy import BYTE_MS, PartitionPolicy


class _Option(NamedTuple):
    """A candidate: `fixed_ms` on both machines, `crossing_bytes` on the link, what it loses of the metric."""

    number: int
    fixed_ms: float
    crossing_bytes: float
    loss_points: float


class Chooser:
    """Follows one plan along a link that changes, and holds its choice within the plan's hysteresis."""

    def __init__(self, policy: PartitionPolicy, usable: Iterable[int]) -> None:
        """`usable`: numbers of the candidates to choose from."""
        self._options: List[_Option] = [_option(number, policy.candidates[number]) for number in sorted(usable)]
        self._by_number: Dict[int, _Option] = {option.number: option for option in self._options}
        hysteresis = policy.content.get("hysteresis") or {}
        self._margin = 1.0 + float(hysteresis.get("percent", 0.0)) / 100.0
        bound = policy.content.get("bound") or {}
        self._maximum_ms: Optional[float] = bound.get("maximum_latency_ms")
        self._held: Optional[int] = None

    def __contains__(self, number: int) -> bool:
        """Tell whether a candidate may be chosen."""
        return number in self._by_number

    def choose(self, link: LinkState) -> Optional[int]:
        """Return the number of the candidate to use now; None where there is none."""
        found = self._best(link.goodput_bps, link.round_trip_ms)
        if found is not None and self._held is not None and found.number != self._held:
            held = self._by_number[self._held]
            if self._holds(held, found, link.goodput_bps, link.round_trip_ms):
                found = held
        self._held = None if found is None else found.number
        return self._held

    def is_doubtful(self, link: LinkState) -> bool:
        """Tell whether another candidate would be chosen at the ends of where the goodput may be."""
        if self._held is None:
            return True
        held = self._by_number[self._held]
        for goodput_bps in (link.low_bps, link.high_bps):
            best = self._best(goodput_bps, link.round_trip_ms)
            if best is not None and best != held and not self._holds(held, best, goodput_bps, link.round_trip_ms):
                return True
        return False

    def _best(self, goodput_bps: float, round_trip_ms: float) -> Optional[_Option]:
        """Return the fastest, or with a bound on latency the most accurate of those that keep it."""
        if self._maximum_ms is not None:
            within = [
                option for option in self._options
                if _latency_ms(option, goodput_bps, round_trip_ms) <= self._maximum_ms
            ]  # fmt: skip
            if within:
                return min(
                    within, key=lambda one: (one.loss_points, _latency_ms(one, goodput_bps, round_trip_ms), one.number)
                )
        return min(
            self._options,
            key=lambda one: (_latency_ms(one, goodput_bps, round_trip_ms), one.loss_points, one.number),
            default=None,
        )

    def _holds(self, held: _Option, best: _Option, goodput_bps: float, round_trip_ms: float) -> bool:
        """Tell whether the one in use is kept although another is best."""
        held_ms = _latency_ms(held, goodput_bps, round_trip_ms)
        if self._maximum_ms is not None and _latency_ms(best, goodput_bps, round_trip_ms) <= self._maximum_ms:
            if held_ms > self._maximum_ms:
                return False
            # A more accurate one is taken once it keeps the bound with the margin.
            return _latency_ms(best, goodput_bps / self._margin, round_trip_ms) > self._maximum_ms
        return held_ms <= self._margin * _latency_ms(best, goodput_bps, round_trip_ms)


def _option(number: int, candidate: Dict[str, Any]) -> _Option:
    return _Option(
        number,
        float(candidate["device_ms"]) + float(candidate["edge_ms"]),
        float(candidate.get("wire_bytes", candidate["payload_bytes"])),
        float(candidate.get("loss_points", 0.0)),
    )


def _latency_ms(option: _Option, goodput_bps: float, round_trip_ms: float) -> float:
    """Return the plan's latency model: docs/formats.md, "Partition policy"."""
    if not option.crossing_bytes:
        return option.fixed_ms
    return option.fixed_ms + round_trip_ms + BYTE_MS * option.crossing_bytes / goodput_bps
