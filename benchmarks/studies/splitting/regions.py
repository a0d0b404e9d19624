"""Which of device, edge and split is fastest at one slowdown and goodput."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.figures.ways import Way, WayMap, map_ways, way_of
from benchmarks.selection.selector import Candidate


@dataclass(frozen=True)
class Fastest:
    """The fastest candidates at one slowdown and goodput, the split None where none keeps the bound.

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


def map_of_splits(
    candidates: Sequence[Candidate], assumed_slowdown: float, slowdowns: Sequence[float],
    goodputs_bps: Sequence[float], may_split: Callable[[Candidate], bool] = lambda _: True,
) -> WayMap:  # fmt: skip
    """Return the map of the fastest ways.

    `assumed_slowdown`: the one that device times are for. A cut counts where `may_split` allows its candidate.
    """
    return map_ways(
        candidates, assumed_slowdown, slowdowns, goodputs_bps, lambda one: way_of(one) != "split" or may_split(one)
    )


def fastest(
    candidates: Sequence[Candidate], assumed_slowdown: float, slowdown: float, goodput_bps: float,
    may_split: Callable[[Candidate], bool] = lambda _: True,
) -> Fastest:  # fmt: skip
    """Return the fastest without and with a cut, of the candidates that keep the bound, as they were given.

    Raises ValueError when no candidate without a cut keeps the bound.
    """
    found = map_of_splits(candidates, assumed_slowdown, [slowdown], [goodput_bps], may_split)
    times_ms = {way: float(times[0, 0]) for way, times in found.fastest_ms.items()}
    numbers = {way: int(number[0, 0]) for way, number in found.candidates.items()}
    known: list[Way] = [way for way in ("device", "edge") if numbers[way] >= 0]
    competitor = min(known, key=lambda way: times_ms[way])
    split = candidates[numbers["split"]] if numbers["split"] >= 0 else None
    return Fastest(candidates[numbers[competitor]], times_ms[competitor], split, times_ms["split"])
