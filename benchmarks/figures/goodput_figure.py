"""Latency against goodput: every baseline of every family, what the plan takes, and where it switches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.figures.candidate_times import drawn_round_trips_ms, intervals_at, links_at, not_drawn
from benchmarks.figures.palette import LIGHT
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import Layout, label, literal, title_panel, with_room
from benchmarks.figures.ways_figure import goodput_range_bps
from benchmarks.selection.baselines import baselines
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Interval, LinkChoice, Selection, describe, latency_ms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What a baseline is called before its family: colour and dashes.
_KINDS: dict[str, tuple[str, Literal["-", "--", "-.", ":"]]] = {
    "device only": (LIGHT["series-1"], "-."),
    "edge only raw": (LIGHT["series-4"], ":"),
    "edge only coded": (LIGHT["series-2"], "--"),
    "edge only resized": (LIGHT["series-2"], "-."),
    "best split": (LIGHT["series-5"], "-"),
}
_PANEL_INCHES = 2.6
_MOST_IN_A_ROW = 4  # panels of the families at one round trip
_POINTS_PER_FIGURE = 61


@dataclass(frozen=True)
class Sweep:
    """Latencies over goodput at one round trip, in milliseconds, with the links that have it.

    `baselines`: by name, one for each of `goodputs_bps`; None: not known. `plan`: the number of the candidate that the
    plan takes there. `marks`: what lies at a goodput: a link or a switch.
    """

    round_trip_ms: float
    links: tuple[LinkChoice, ...]
    goodputs_bps: tuple[float, ...]
    marks: tuple[str, ...]
    plan: tuple[int, ...]
    plan_ms: tuple[float, ...]
    baselines: dict[str, tuple[float | None, ...]]


def goodput_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure of a project."""
    selection = result.selection
    found = [sweep(result, trip) for trip in drawn_round_trips_ms(selection)]
    return ReportFigure(
        "latency_against_goodput",
        "Latency against goodput",
        "Lines: latency of baselines and plan against the goodput of the link",
        "Thick: what the plan takes, a point where it switches. Dashed upright lines: the project's links. A baseline "
        "is the fastest of its kind and family; without a split it stands even where none keeps the accuracy bound.",
        lambda layout: _draw(found, layout),
        _data(selection, found),
        (f"{_switches(selection, found)} At a switch both neighbours take the same.", *not_drawn(selection)),
    )


def _switches(selection: Selection, found: Sequence[Sweep]) -> str:
    """Return in a sentence how often the plan switches; one round trip each where links have several."""
    counts = [len(intervals_at(selection, one.round_trip_ms)) - 1 for one in found]
    times = ["never" if count == 0 else "once" if count == 1 else f"{count} times" for count in counts]
    if len(found) == 1:
        trip = found[0].round_trip_ms
        at_trip = f" The link's round trip is {trip:g} ms at every goodput." if trip > 0 else ""
        return f"Over all goodputs the plan switches {times[0]}.{at_trip}"
    each = ", ".join(f"{time} at {one.round_trip_ms:g} ms" for time, one in zip(times, found, strict=True))
    return (
        "The links' round trips differ: each panel holds for one of them, and has the links with it. Over all goodputs "
        f"the plan switches {each}."
    )


def sweep(result: ProjectSelection, round_trip_ms: float = 0.0) -> Sweep:
    """Return the latencies at a round trip: at the goodputs of the map, at every link with it and every switch."""
    selection = result.selection
    low, high = goodput_range_bps(result)
    intervals, links = intervals_at(selection, round_trip_ms), links_at(selection, round_trip_ms)
    marks = dict.fromkeys(np.geomspace(low, high, _POINTS_PER_FIGURE).tolist(), "")
    for after in intervals[1:]:
        if low < after.from_bps < high:
            marks[after.from_bps] = "switch"
    for choice in links:
        marks[choice.goodput_bps] = ", ".join(filter(None, (marks.get(choice.goodput_bps), choice.link)))
    goodputs = tuple(sorted(marks))
    plan = tuple(_planned(intervals, goodput) for goodput in goodputs)
    trip = round_trip_ms
    at_each = [{item.name: item.latency_ms for item in baselines(selection, goodput, trip)} for goodput in goodputs]
    names = dict.fromkeys(itertools.chain.from_iterable(at_each))
    return Sweep(
        trip,
        links,
        goodputs,
        tuple(marks[goodput] for goodput in goodputs),
        plan,
        tuple(latency_ms(selection.candidates[i], goodput, trip) for i, goodput in zip(plan, goodputs, strict=True)),
        {name: tuple(times.get(name) for times in at_each) for name in names},
    )


def _planned(intervals: Sequence[Interval], goodput_bps: float) -> int:
    """Return the number of the candidate whose interval holds a goodput."""
    return next(item for item in reversed(intervals) if item.from_bps <= goodput_bps).candidate


def _draw(found: Sequence[Sweep], layout: Layout) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    families = list(dict.fromkeys(name.split(", ", 1)[1] for one in found for name in one.baselines))
    columns = 1 if layout.is_narrow or len(families) == 1 else 2
    if len(found) > 1 and not layout.is_narrow:
        columns = min(len(families), _MOST_IN_A_ROW)
    rows_each = -(-len(families) // columns)
    rows = len(found) * rows_each
    empty = [None] * (rows_each * columns - len(families))
    places = [place for one in found for place in [*((one, family) for family in families), *empty]]
    # The last number of an axis is beside the first of the next.
    engine = ConstrainedLayoutEngine(w_pad=0.1)
    figure = Figure(figsize=(layout.width_inches, 0.8 + _PANEL_INCHES * rows), layout=engine)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, place in zip(panels.flat, places, strict=True):
        if place is None:
            axes.set_visible(False)
            continue
        one, family = place
        _draw_family(axes, one, family)
        trip = f"\nround trip {one.round_trip_ms:g} ms" if len(found) > 1 else ""
        title_panel(axes, f"{label(family)}{trip}")
    for axes in panels[:, 0]:
        axes.set_ylabel("latency, ms")
    for number in range(columns):  # the lowest panel of a column that there is
        lowest = [axes for axes in panels[:, number] if axes.get_visible()][-1]
        lowest.set_xlabel("goodput, Mbit/s")
        lowest.tick_params(labelbottom=True)
    lines = [Line2D([], [], color=LIGHT["ink"], linewidth=2.2, marker="o", markersize=4, label="the plan")]
    lines += [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.3, label=kind)
        for kind, (colour, dashes) in _KINDS.items()
        if any(name.startswith(f"{kind}, ") for one in found for name in one.baselines)
    ]
    figure.legend(handles=lines, loc="outside upper center", ncols=2 if layout.is_narrow else 5, frameon=False)
    return figure


def _draw_family(axes: Axes, found: Sweep, family: str) -> None:
    across = [goodput / 1e6 for goodput in found.goodputs_bps]
    for choice in found.links:
        axes.axvline(choice.goodput_bps / 1e6, color=LIGHT["muted"], linewidth=0.7, linestyle=(0, (6, 2)))
    switches = [number for number, mark in enumerate(found.marks) if mark.startswith("switch")]
    axes.plot(
        across, found.plan_ms, color=LIGHT["ink"], linewidth=2.2, marker="o", markersize=4, markevery=switches, zorder=3
    )
    for kind, (colour, dashes) in _KINDS.items():
        times = found.baselines.get(f"{kind}, {family}")
        if times is not None:
            known = [float("nan") if time is None else time for time in times]
            axes.plot(across, known, color=colour, linestyle=dashes, linewidth=1.3, zorder=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(across[0], across[-1])
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    _name_links(axes, found.links)
    axes.grid()
    axes.spines[["top", "right"]].set_visible(False)


def _name_links(axes: Axes, choices: Sequence[LinkChoice]) -> None:
    links = sorted(choices, key=lambda choice: choice.goodput_bps)
    span = np.log(axes.get_xlim()[1] / axes.get_xlim()[0])
    named = with_room([np.log(choice.goodput_bps) / span for choice in links], 0.04)
    texts = [
        axes.annotate(
            label(choice.link, 16), (choice.goodput_bps / 1e6, 0.99), (-1.5, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, ha="right", va="top", fontsize=7, color=LIGHT["muted"],
        )
        for choice, has_room in zip(links, named, strict=True)
        if has_room
    ]  # fmt: skip
    literal(texts)


def _data(selection: Selection, found: Sequence[Sweep]) -> FigureData:
    names = list(dict.fromkeys(name for one in found for name in one.baselines))
    columns = ("round_trip_ms", "goodput_bps", "at", "plan", "plan_ms", *(f"{name}, ms" for name in names))
    rows = [
        (
            f"{one.round_trip_ms:.10g}",
            f"{goodput:.10g}",
            one.marks[number],
            describe(selection.candidates[one.plan[number]]),
            f"{one.plan_ms[number]:.4f}",
            *(_ms(one.baselines[name][number] if name in one.baselines else None) for name in names),
        )
        for one in found
        for number, goodput in enumerate(one.goodputs_bps)
    ]
    return FigureData(columns, tuple(rows), tuple(name for name in columns if name not in ("at", "plan")))


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
