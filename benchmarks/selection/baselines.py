"""What a choice is compared with on a link: no split, and the best split, of each family of variants."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Selection, latency_ms
from jetson.wire.image_message import RAW, is_resized


@dataclass(frozen=True)
class Baseline:
    """A candidate to compare with, and its latency on one link."""

    name: str
    candidate: int
    latency_ms: float


def baselines(selection: Selection, goodput_bps: float, round_trip_ms: float = 0.0) -> list[Baseline]:
    """Return what a choice is compared with on a link: no split, and the best split, for each family of variants.

    Each is the fastest of its family. Without a split a baseline stands even where none of the family keeps the
    accuracy bound; the best split is one that may be chosen. Only latencies that are known are returned.
    """
    found = []
    for family in dict.fromkeys(candidate.compared_as for candidate in selection.candidates):
        indexed = [(i, c) for i, c in enumerate(selection.candidates) if c.compared_as == family and _timed(c)]
        uploads = [(i, c) for i, c in indexed if c.layer == INPUT]
        kinds = {
            f"device only, {family}": [i for i, c in indexed if c.layer == OUTPUT],
            f"edge only raw, {family}": [i for i, c in uploads if c.coding == RAW],
            f"edge only coded, {family}": [i for i, c in uploads if c.coding != RAW and not is_resized(c.coding)],
            f"edge only resized, {family}": [i for i, c in uploads if is_resized(c.coding)],
            f"best split, {family}": [i for i, c in indexed if c.layer not in (INPUT, OUTPUT) and not c.reason],
        }
        for name, indices in kinds.items():
            if indices:
                keeping = [i for i in indices if not selection.candidates[i].reason] or indices
                times_ms = {i: latency_ms(selection.candidates[i], goodput_bps, round_trip_ms) for i in keeping}
                best = min(keeping, key=lambda i: times_ms[i])
                found.append(Baseline(name, best, times_ms[best]))
    return found


def _timed(candidate: Candidate) -> bool:
    return candidate.device_ms is not None and candidate.edge_ms is not None
