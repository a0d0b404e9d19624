"""The report's map of where splitting pays, over all goodputs and slowdowns, with the project's own marked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures.candidate_times import device_is_measured, plan_round_trip_ms
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import Layout
from benchmarks.figures.ways import WAYS, WayMap, map_ways
from benchmarks.figures.ways_drawing import NAMES, draw_ways
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GOODPUTS_BPS, _SLOWDOWNS = (1e5, 1e8), (1.0, 50.0)
_COLUMNS, _ROWS = 49, 33
# How far the axes go beyond what the project has, so that its marks do not lie on the border.
_BEYOND = 2.0


def ways_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure of a project."""
    found = project_map(result)
    places = [found.way_at(row, column) for row in range(_ROWS) for column in range(_COLUMNS)]
    shares = ", ".join(f"{NAMES[way]} in {100 * places.count(way) / len(places):.0f} %" for way in WAYS)
    measured = device_is_measured(result.selection)
    axis = f"against the {'device as it was measured' if measured else 'machine that was measured'}"
    round_trip = plan_round_trip_ms(result.selection)
    trip = f" The link's round trip is {round_trip:g} ms at every goodput." if round_trip > 0 else ""
    return ReportFigure(
        "where_splitting_pays",
        "Where splitting pays",
        "Map: which of device, edge and split is fastest, by goodput and by how slow the device is",
        "Colours and names: the fastest within the accuracy bound. Dotted lines: how many times as fast the best split "
        "is as the best without. Dashed: the project's links and its device.",
        lambda layout: _draw(result, found, layout),
        _data(result, found),
        (
            f"Of this map the fastest way is {shares}. A split is compared with the better of all on the device and "
            "all on the edge, the image raw or coded.",
            *_missing(found),
            f"The slowdown is {axis}, the same for every part of the network.{trip}",
        ),
    )


def _missing(found: WayMap) -> list[str]:
    """Return in a sentence which ways have no candidate that may be chosen, so that none is taken for slow."""
    missing = [NAMES[way] for way in WAYS if not np.isfinite(found.fastest_ms[way]).any()]
    return [f"No candidate is left for: {', '.join(missing)}."] if missing else []


def project_map(result: ProjectSelection) -> WayMap:
    """Return the project's map: decades around its links, and slowdowns around its own."""
    links = [choice.goodput_bps for choice in result.selection.links]
    low = min([_GOODPUTS_BPS[0], *(10 ** math.floor(math.log10(link / _BEYOND)) for link in links)])
    high = max([_GOODPUTS_BPS[1], *(10 ** math.ceil(math.log10(link * _BEYOND)) for link in links)])
    assumed = own_slowdown(result)
    slowest, fastest = max(_SLOWDOWNS[1], assumed * _BEYOND), min(_SLOWDOWNS[0], assumed / _BEYOND)
    return map_ways(
        result.selection.candidates,
        assumed,
        np.geomspace(fastest, slowest, _ROWS),
        np.geomspace(low, high, _COLUMNS),
        round_trip_ms=plan_round_trip_ms(result.selection),
    )


def own_slowdown(result: ProjectSelection) -> float:
    """Return the factor that the device's times in the plan stand for: 1 where they were measured on the device."""
    return 1.0 if device_is_measured(result.selection) else result.settings.device_slowdown


def _draw(result: ProjectSelection, found: WayMap, layout: Layout) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(layout.width_inches, 3.6 if layout.is_narrow else 4.6), layout="constrained")
    axes = figure.subplots()
    links = {choice.link: choice.goodput_bps for choice in result.selection.links}
    measured = device_is_measured(result.selection)
    line_name = "as measured" if measured else f"{result.settings.device_slowdown:g}×, assumed"
    draw_ways(axes, found, links, own_slowdown(result), line_name)
    axes.set_ylabel(f"device slower than {'measured' if measured else 'this machine'}")
    return figure


def _data(result: ProjectSelection, found: WayMap) -> FigureData:
    columns = (
        "goodput_bps", "device_slowdown", "fastest", "gain_of_split", "device_ms", "split_ms", "edge_ms", "candidate",
    )  # fmt: skip
    gains = found.gains
    rows = []
    for row, slowdown in enumerate(found.slowdowns):
        for column, goodput in enumerate(found.goodputs_bps):
            times = [float(found.fastest_ms[way][row, column]) for way in WAYS]
            rows.append(
                (
                    f"{goodput:.10g}",
                    f"{slowdown:.4g}",
                    found.way_at(row, column),
                    _number(float(gains[row, column])),
                    *map(_number, times),
                    describe(result.selection.candidates[found.candidate_at(row, column)]),
                )
            )
    return FigureData(columns, tuple(rows), tuple(name for name in columns if name not in ("fastest", "candidate")))


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) and value > 0 else ""
