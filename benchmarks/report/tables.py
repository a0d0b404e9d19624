"""Tables of the report that belong to no figure: the plan's intervals, and other slowdowns."""

from __future__ import annotations

from benchmarks.report.html import folded, heading, paragraph, table
from benchmarks.report.summary import link_name
from benchmarks.selection.project_selection import ProjectSelection, other_slowdowns
from benchmarks.selection.selector import describe


def intervals(result: ProjectSelection) -> list[str]:
    """Return as HTML which candidate is best at which goodput, and which of the links lie there."""
    rows = []
    for interval in result.selection.intervals:
        upto = interval.upto_bps
        inside = [
            link_name(choice)
            for choice in result.selection.links
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
    listed = table(["from Mbit/s", "to Mbit/s", "candidate", "links"], rows, ["from Mbit/s", "to Mbit/s"])
    return [
        heading("Best by goodput"),
        paragraph(
            "The choice changes at these goodputs; at a switch point both neighbours take the same time. A device "
            "picks its row in plan.json from the goodput that it measures."
        ),
        folded(f"The plan's {len(rows)} rows", listed),
    ]


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
