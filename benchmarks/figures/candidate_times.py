"""What a candidate takes on one of the project's links, and where its times come from: the one place that asks."""

from __future__ import annotations

from collections import Counter

from benchmarks.selection.selector import Candidate, LinkChoice, Origin, Selection
from benchmarks.selection.terms import Terms, terms_of


def terms_on(candidate: Candidate, link: LinkChoice) -> Terms:
    """Return the terms on a link; raises ValueError for times that are not known."""
    return terms_of(candidate, link.goodput_bps, link.round_trip_ms)


def ms_on(candidate: Candidate, link: LinkChoice) -> float:
    """Return the latency on a link in milliseconds; raises ValueError for times that are not known."""
    return terms_on(candidate, link).total_ms


def plan_round_trip_ms(selection: Selection) -> float:
    """Return the round trip that the plan's intervals over goodput are for, in milliseconds: the first link's."""
    return selection.envelopes[0].round_trip_ms if selection.envelopes else 0.0


def device_is_measured(selection: Selection) -> bool:
    """Tell whether any candidate that may be chosen has a device time measured on the device itself."""
    return any(not item.reason and item.device_origin == "measured" for item in selection.candidates)


def count_origins(selection: Selection) -> tuple[Counter[Origin], Counter[Origin]]:
    """Return how many of the candidates that may be chosen have device times, and edge times, of each origin.

    A candidate without work on a machine, or without a word on where its time comes from, does not count there.
    """
    allowed = [candidate for candidate in selection.candidates if not candidate.reason]
    device = Counter(item.device_origin for item in allowed if item.device_ms and item.device_origin)
    edge = Counter(item.edge_origin for item in allowed if item.edge_ms and item.edge_origin)
    return device, edge


def counts_protocol(selection: Selection) -> bool:
    """Tell whether latencies count more than the payload: bytes of a protocol and of the reply."""
    return any(item.crossing_bytes > item.payload_bytes for item in selection.candidates)
