"""Tables of the report that belong to no figure: the plan's intervals, and other slowdowns."""

from __future__ import annotations

from benchmarks.figures.candidate_times import intervals_at, links_at, round_trips_ms
from benchmarks.report.html import folded, heading, paragraph, table
from benchmarks.report.summary import link_name
from benchmarks.selection.project_selection import ProjectSelection, other_slowdowns
from benchmarks.selection.selector import describe


def intervals(result: ProjectSelection) -> list[str]:
    """Return as HTML for each round trip which candidate is best at which goodput, and which links lie there."""
    trips = round_trips_ms(result.selection)
    listed = []
    for trip in trips:
        rows = _interval_rows(result, trip)
        at_trip = f" at a round trip of {trip:g} ms" if len(trips) > 1 or trip > 0 else ""
        columns = ["from Mbit/s", "to Mbit/s", "candidate", "links"]
        listed.append(folded(f"The plan's {len(rows)} rows{at_trip}", table(columns, rows, columns[:2])))
    return [
        heading("Best by goodput"),
        paragraph(
            "The choice changes at these goodputs; at a switch point both neighbours take the same time. A device "
            "picks its row in plan.json from the goodput that it measures."
        ),
        *listed,
    ]


def _interval_rows(result: ProjectSelection, round_trip_ms: float) -> list[list[str]]:
    rows = []
    for interval in intervals_at(result.selection, round_trip_ms):
        upto = interval.upto_bps
        inside = [
            link_name(choice)
            for choice in links_at(result.selection, round_trip_ms)
            if interval.from_bps <= choice.goodput_bps and (upto is None or choice.goodput_bps < upto)
        ]
        rows.append(
            [
                f"{interval.from_bps / 1e6:.3f}",
                "and more" if upto is None else f"{upto / 1e6:.3f}",
                describe(result.selection.candidates[interval.candidate]),
                ", ".join(inside),
            ]
        )
    return rows


def slowdowns(result: ProjectSelection) -> list[str]:
    """Return as HTML what would be chosen were the device slower or faster than assumed, or measured."""
    assumed = result.settings.device_slowdown
    how = "measured" if result.sources.compared_parts else "assumed"
    again = other_slowdowns(result)
    rows = [
        [
            f"{slowdown:.3g}" + (f" ({how})" if slowdown == assumed else ""),
            *(
                f"{choice.latency_ms:.3f} ms: {describe(selection.candidates[choice.candidate])}"
                for choice in selection.links
            ),
        ]
        for slowdown, selection in again
    ]
    listed = table(
        ["device_slowdown", *map(link_name, result.selection.links)],
        rows,
        classes=["chosen" if slowdown == assumed else "" for slowdown, _ in again],
    )
    return [
        heading("Were the device slower or faster"),
        paragraph(f"The same selection for other device_slowdown than the {how} one; all else stays."),
        folded(f"Choices at {len(rows)} slowdowns", listed),
    ]
