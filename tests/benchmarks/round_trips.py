"""Links that differ in their round trips, and a selection for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.links.link import Link
from benchmarks.selection.project_selection import ProjectSelection, options_of
from benchmarks.selection.selector import select

TWO_TRIPS = (Link("4G", 5.85e6, 60.0), Link("WiFi", 18.88e6, 2.0), Link("3G", 1.1e6, 2.0))
FIVE_TRIPS = (
    *(Link(f"link {number}", number * 1e6, 10.0 * number) for number in range(1, 6)),
    Link("another", 7e6, 40.0),
)


def with_links(result: ProjectSelection, links: Sequence[Link]) -> ProjectSelection:
    """Return a selection of the same candidates for other links."""
    bound = result.settings.maximum_loss_points
    candidates = [replace(item, reason="") for item in result.selection.candidates]
    return replace(result, selection=select(candidates, links, bound, options_of(result.settings)))
