"""The same selection for devices that are slower and faster than assumed."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Selection, select

SLOWDOWNS = (1.0, 2.0, 5.0, 10.0, 20.0)


def other_slowdowns(result: ProjectSelection) -> list[tuple[float, Selection]]:
    """Return a selection for each of `SLOWDOWNS` and for the one assumed, in order; all else stays."""
    assumed = result.settings.device_slowdown
    goodputs = {choice.link: choice.goodput_bps for choice in result.selection.links}
    found = []
    for slowdown in sorted({*SLOWDOWNS, assumed}):
        scaled = [
            candidate
            if candidate.device_ms is None
            else replace(candidate, device_ms=candidate.device_ms * slowdown / assumed)
            for candidate in result.selection.candidates
        ]
        found.append((slowdown, select(scaled, goodputs, result.settings.maximum_loss_points)))
    return found
