"""What a candidate takes on one of the project's links, and where its times come from: the one place that asks."""

from __future__ import annotations

from collections import Counter

from benchmarks.selection.selector import IDLE, Candidate, Interval, LinkChoice, Origin, Selection
from benchmarks.selection.terms import Terms, terms_of

# Figures over goodput hold for one round trip: so many are drawn.
MOST_ROUND_TRIPS = 4


def terms_on(candidate: Candidate, link: LinkChoice) -> Terms:
    """Return the terms on a link; raises ValueError for times that are not known."""
    return terms_of(candidate, link.goodput_bps, link.round_trip_ms)


def ms_on(candidate: Candidate, link: LinkChoice) -> float:
    """Return the latency on a link in milliseconds; raises ValueError for times that are not known."""
    return terms_on(candidate, link).total_ms


def round_trips_ms(selection: Selection) -> tuple[float, ...]:
    """Return the round trips that the plan has intervals over goodput for, in milliseconds, rising."""
    return tuple(sorted({envelope.round_trip_ms for envelope in selection.envelopes})) or (0.0,)


def drawn_round_trips_ms(selection: Selection) -> tuple[float, ...]:
    """Return the round trips that figures over goodput are drawn for, rising: those that most links have."""
    links = Counter(choice.round_trip_ms for choice in selection.links)
    by_links = sorted(round_trips_ms(selection), key=lambda trip: -links[trip])
    return tuple(sorted(by_links[:MOST_ROUND_TRIPS]))


def intervals_at(selection: Selection, round_trip_ms: float) -> tuple[Interval, ...]:
    """Return the plan's intervals over goodput for one round trip, both machines idle."""
    for envelope in selection.envelopes:
        if (envelope.device_load, envelope.edge_load, envelope.round_trip_ms) == (IDLE, IDLE, round_trip_ms):
            return envelope.intervals
    return selection.intervals


def links_at(selection: Selection, round_trip_ms: float) -> tuple[LinkChoice, ...]:
    """Return the links with a round trip."""
    return tuple(choice for choice in selection.links if choice.round_trip_ms == round_trip_ms)


def not_drawn(selection: Selection) -> list[str]:
    """Return in a sentence which links are in no figure over goodput, because their round trip is not drawn."""
    drawn = drawn_round_trips_ms(selection)
    links = [
        f"{choice.link} ({choice.round_trip_ms:g} ms)"
        for choice in selection.links
        if choice.round_trip_ms not in drawn
    ]
    if not links:
        return []
    return [f"Not drawn, because of their round trips: {', '.join(links)}; their latencies are in the bars per link."]


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
