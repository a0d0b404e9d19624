"""Which way is fastest, device, edge or split, for every slowdown of the device and every goodput of the link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate
from benchmarks.selection.terms import terms_of

Way = Literal["device", "edge", "split"]
WAYS: tuple[Way, ...] = ("device", "split", "edge")
_NONE = -1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WayMap:
    """The fastest candidate of each way at every point: arrays of slowdowns by goodputs.

    `slowdowns`: of the device, without unit; `goodputs_bps`: bits per second. `fastest_ms`: by way, infinity where no
    candidate of that way may be chosen; `candidates`: its number, -1 for none.
    """

    slowdowns: Floats
    goodputs_bps: Floats
    fastest_ms: dict[Way, Floats]
    candidates: dict[Way, npt.NDArray[np.intp]]

    @property
    def unsplit_ms(self) -> Floats:
        """Return the time of the better of device and edge."""
        return np.minimum(self.fastest_ms["device"], self.fastest_ms["edge"])

    @property
    def gains(self) -> Floats:
        """Return how many times as fast the best split is as the best without: 0 without a split, or infinity."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = self.unsplit_ms / self.fastest_ms["split"]
        return np.where(np.isfinite(self.fastest_ms["split"]), ratios, 0.0)

    def way_at(self, row: int, column: int) -> Way:
        """Return which way is fastest at one point; where ways take the same time, the one without a cut."""
        return min(("device", "edge", "split"), key=lambda way: float(self.fastest_ms[way][row, column]))

    def candidate_at(self, row: int, column: int) -> int:
        """Return the number of the fastest candidate at one point."""
        return int(self.candidates[self.way_at(row, column)][row, column])


def way_of(candidate: Candidate) -> Way:
    """Return where a candidate runs."""
    return "device" if candidate.layer == OUTPUT else "edge" if candidate.layer == INPUT else "split"


def map_ways(
    candidates: Sequence[Candidate], assumed_slowdown: float, slowdowns: Sequence[float] | Floats,
    goodputs_bps: Sequence[float] | Floats, may_run: Callable[[Candidate], bool] = lambda _: True,
    round_trip_ms: float = 0.0,
) -> WayMap:  # fmt: skip
    """Return the map over candidates that have no reason against them.

    `assumed_slowdown`: the one that their device times are for. A candidate counts where `may_run` allows it.
    `round_trip_ms`: of the link, at every goodput.
    """
    across, up = np.asarray(goodputs_bps, np.float64), np.asarray(slowdowns, np.float64)
    shape = (len(up), len(across))
    fastest = {way: np.full(shape, np.inf) for way in WAYS}
    numbers = {way: np.full(shape, _NONE, np.intp) for way in WAYS}
    for number, candidate in enumerate(candidates):
        if candidate.reason or not may_run(candidate):
            continue
        # At 1 bit per second: the selector's own formula turns bytes into a time, here as everywhere.
        terms = terms_of(candidate, 1.0)
        crossing_ms = terms.transmission_ms / across + (round_trip_ms if terms.transmission_ms > 0 else 0.0)
        here = (terms.device_ms / assumed_slowdown) * up[:, None] + crossing_ms + terms.edge_ms
        way = way_of(candidate)
        better = here < fastest[way]
        fastest[way] = np.where(better, here, fastest[way])
        numbers[way] = np.where(better, number, numbers[way])
    return WayMap(up, across, fastest, numbers)
