"""Where a candidate's times come from: measured, measured here and scaled, or predicted."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from benchmarks.selection.selector import Candidate, Selection

Origin = Literal["measured", "scaled", "predicted"]


def device_origin(candidate: Candidate) -> Origin:
    """Return where the device's time comes from; a candidate that does not say has this machine's, scaled."""
    origin: Origin = getattr(candidate, "device_origin", None) or "scaled"
    return origin


def edge_origin(candidate: Candidate) -> Origin:
    """Return where the edge's time comes from; a candidate that does not say was measured."""
    origin: Origin = getattr(candidate, "edge_origin", None) or "measured"
    return origin


def device_is_measured(selection: Selection) -> bool:
    """Tell whether any candidate that may be chosen has a device time measured on the device itself."""
    return any(not item.reason and device_origin(item) == "measured" for item in selection.candidates)


def count_origins(selection: Selection) -> tuple[Counter[Origin], Counter[Origin]]:
    """Return how many of the candidates that may be chosen have device times, and edge times, of each origin.

    Only machines that compute count: all on the edge has no time on the device but its encoding's.
    """
    allowed = [candidate for candidate in selection.candidates if not candidate.reason]
    device = Counter(device_origin(item) for item in allowed if item.device_ms)
    edge = Counter(edge_origin(item) for item in allowed if item.edge_ms)
    return device, edge


def counts_protocol(selection: Selection) -> bool:
    """Tell whether latencies count more than the payload: bytes of a protocol and of the reply."""
    return any((getattr(item, "wire_bytes", None) or 0.0) > item.payload_bytes for item in selection.candidates)
