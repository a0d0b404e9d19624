"""The report's map of where splitting pays, over all goodputs and slowdowns, with the project's own marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures.candidate_times import device_is_measured, drawn_round_trips_ms, links_at, not_drawn
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import Layout, literal
from benchmarks.figures.ways import WAYS, WayMap, map_ways
from benchmarks.figures.ways_drawing import NAMES, draw_ways
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_GOODPUTS_BPS, _SLOWDOWNS = (1e5, 1e8), (1.0, 50.0)
_COLUMNS, _ROWS = 49, 33
# How far the axes go beyond what the project has, so that its marks do not lie on the border.
_BEYOND = 2.0


def ways_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure of a project: a map for each round trip of its links."""
    found = {trip: project_map(result, trip) for trip in drawn_round_trips_ms(result.selection)}
    measured = device_is_measured(result.selection)
    axis = f"against the {'device as it was measured' if measured else 'machine that was measured'}"
    return ReportFigure(
        "where_splitting_pays",
        "Where splitting pays",
        "Map: which of device, edge and split is fastest, by goodput and by how slow the device is",
        "Colours and names: the fastest within the accuracy bound. Dotted lines: how many times as fast the best split "
        "is as the best without. Dashed: the project's links and its device.",
        lambda layout: _draw(result, found, layout),
        _data(result, found),
        (
            f"{_shares(found)} A split is compared with the better of all on the device and all on the edge, the image "
            "raw or coded.",
            *_missing(next(iter(found.values()))),
            f"The slowdown is {axis}, the same for every part of the network.{_round_trips(found)}",
            *not_drawn(result.selection),
        ),
    )


def _shares(found: Mapping[float, WayMap]) -> str:
    """Return in a sentence, or one for each round trip, how much of a map each way has."""
    said = []
    for trip, one in found.items():
        places = [one.way_at(row, column) for row in range(_ROWS) for column in range(_COLUMNS)]
        shares = ", ".join(f"{NAMES[way]} in {100 * places.count(way) / len(places):.0f} %" for way in WAYS)
        where = "Of this map" if len(found) == 1 else f"At a round trip of {trip:g} ms"
        said.append(f"{where} the fastest way is {shares}.")
    return " ".join(said)


def _round_trips(found: Mapping[float, WayMap]) -> str:
    if len(found) > 1:
        return " The links' round trips differ: each map holds for one of them, and has the links with it."
    (trip,) = found
    return f" The link's round trip is {trip:g} ms at every goodput." if trip > 0 else ""


def _missing(found: WayMap) -> list[str]:
    """Return in a sentence which ways have no candidate that may be chosen, so that none is taken for slow."""
    missing = [NAMES[way] for way in WAYS if not np.isfinite(found.fastest_ms[way]).any()]
    return [f"No candidate is left for: {', '.join(missing)}."] if missing else []


def goodput_range_bps(result: ProjectSelection) -> tuple[float, float]:
    """Return from where to where figures over goodput go: decades around all links."""
    links = [choice.goodput_bps for choice in result.selection.links]
    low = min([_GOODPUTS_BPS[0], *(10 ** math.floor(math.log10(link / _BEYOND)) for link in links)])
    return low, max([_GOODPUTS_BPS[1], *(10 ** math.ceil(math.log10(link * _BEYOND)) for link in links)])


def project_map(result: ProjectSelection, round_trip_ms: float = 0.0) -> WayMap:
    """Return the project's map for a round trip: decades around its links, and slowdowns around its own."""
    low, high = goodput_range_bps(result)
    assumed = own_slowdown(result)
    slowest, fastest = max(_SLOWDOWNS[1], assumed * _BEYOND), min(_SLOWDOWNS[0], assumed / _BEYOND)
    return map_ways(
        result.selection.candidates,
        assumed,
        np.geomspace(fastest, slowest, _ROWS),
        np.geomspace(low, high, _COLUMNS),
        round_trip_ms=round_trip_ms,
    )


def own_slowdown(result: ProjectSelection) -> float:
    """Return the factor that the device's times in the plan stand for: 1 where they were measured on the device."""
    return 1.0 if device_is_measured(result.selection) else result.settings.device_slowdown


def _draw(result: ProjectSelection, found: Mapping[float, WayMap], layout: Layout) -> Figure:
    from matplotlib.figure import Figure

    columns = 1 if layout.is_narrow or len(found) == 1 else 2
    rows = -(-len(found) // columns)
    height = 4.6 if columns == len(found) == 1 and not layout.is_narrow else 3.6
    figure = Figure(figsize=(layout.width_inches, height * rows), layout="constrained")
    if len(found) == 1:
        _draw_map(result, *next(iter(found.items())), figure)
        return figure
    parts = figure.subfigures(rows, columns, squeeze=False).flat
    for (trip, one), part in zip(found.items(), parts, strict=False):
        literal([part.suptitle(f"round trip {trip:g} ms", x=0.02, ha="left", fontsize=9.5, fontweight="bold")])
        _draw_map(result, trip, one, part)
    return figure


def _draw_map(result: ProjectSelection, round_trip_ms: float, found: WayMap, part: Figure | SubFigure) -> None:
    """Draw the map of one round trip, with the links that have it."""
    axes = part.subplots()
    links = {choice.link: choice.goodput_bps for choice in links_at(result.selection, round_trip_ms)}
    measured = device_is_measured(result.selection)
    line_name = "as measured" if measured else f"{result.settings.device_slowdown:g}×, assumed"
    draw_ways(axes, found, links, own_slowdown(result), line_name)
    axes.set_ylabel(f"device slower than {'measured' if measured else 'this machine'}")


def _data(result: ProjectSelection, found: Mapping[float, WayMap]) -> FigureData:
    columns = (
        "round_trip_ms", "goodput_bps", "device_slowdown", "fastest", "gain_of_split", "device_ms", "split_ms",
        "edge_ms", "candidate",
    )  # fmt: skip
    rows = [row for trip, one in found.items() for row in _rows(result, one, trip)]
    return FigureData(columns, tuple(rows), tuple(name for name in columns if name not in ("fastest", "candidate")))


def _rows(result: ProjectSelection, found: WayMap, round_trip_ms: float) -> list[tuple[str, ...]]:
    gains = found.gains
    rows = []
    for row, slowdown in enumerate(found.slowdowns):
        for column, goodput in enumerate(found.goodputs_bps):
            times = [float(found.fastest_ms[way][row, column]) for way in WAYS]
            rows.append(
                (
                    f"{round_trip_ms:.10g}",
                    f"{goodput:.10g}",
                    f"{slowdown:.4g}",
                    found.way_at(row, column),
                    _number(float(gains[row, column])),
                    *map(_number, times),
                    describe(result.selection.candidates[found.candidate_at(row, column)]),
                )
            )
    return rows


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) and value > 0 else ""
