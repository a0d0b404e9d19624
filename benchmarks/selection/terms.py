"""Where a latency comes from: its three terms, and what a choice is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.planning.latency_model import transmission_ms
from benchmarks.selection.baselines import baselines
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, LinkChoice, Selection

CHOSEN = "chosen"


@dataclass(frozen=True)
class Terms:
    """The three terms of an end-to-end latency, in milliseconds."""

    device_ms: float
    transmission_ms: float
    edge_ms: float

    @property
    def total_ms(self) -> float:
        """The end-to-end latency, summed in the selector's order so that both agree to the last bit."""
        return self.device_ms + self.transmission_ms + self.edge_ms


@dataclass(frozen=True)
class Entry:
    """One candidate on one link under the name that it has in a comparison: a baseline's, or `chosen`."""

    name: str
    index: int
    candidate: Candidate
    terms: Terms


def terms_of(candidate: Candidate, goodput_bps: float, round_trip_ms: float = 0.0) -> Terms:
    """Return the terms at `goodput_bps` (bits per second) and a round trip; raises ValueError for unknown times."""
    if candidate.device_ms is None or candidate.edge_ms is None:
        raise ValueError(f"the latency of {candidate} is not known")
    return Terms(candidate.device_ms, transmission_ms(candidate, goodput_bps, round_trip_ms), candidate.edge_ms)


def is_split(candidate: Candidate) -> bool:
    """Tell whether both machines compute: not all on the edge, not all on the device."""
    return candidate.layer not in (INPUT, OUTPUT)


def compared(selection: Selection, choice: LinkChoice) -> list[Entry]:
    """Return the baselines of a link, those left out by the bound included, and what was chosen, in this order."""
    named = [(item.name, item.candidate) for item in baselines(selection, choice.goodput_bps, choice.round_trip_ms)]
    return [_entry(selection, name, index, choice) for name, index in [*named, (CHOSEN, choice.candidate)]]


def best(entries: list[Entry], *, split: bool | None = None, variant: str | None = None) -> Entry | None:
    """Return the fastest baseline that keeps the bound, None when there is none.

    `split`: only those that do, or do not, split (None: either). `variant`: only that variant's.
    """
    fitting = [
        entry
        for entry in entries
        if entry.name != CHOSEN
        and not entry.candidate.reason
        and (split is None or is_split(entry.candidate) == split)
        and (variant is None or entry.candidate.variant == variant)
    ]
    return min(fitting, key=lambda entry: entry.terms.total_ms, default=None)


def _entry(selection: Selection, name: str, index: int, choice: LinkChoice) -> Entry:
    candidate = selection.candidates[index]
    return Entry(name, index, candidate, terms_of(candidate, choice.goodput_bps, choice.round_trip_ms))
