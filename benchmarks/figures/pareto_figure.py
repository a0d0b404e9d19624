"""Accuracy against latency on every link, and against bytes: all candidates, and those that none beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.figures.candidate_times import ms_on
from benchmarks.figures.palette import LIGHT
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import Layout, label, literal, short_bytes, title_panel
from benchmarks.figures.ways import WAYS, Way, way_of
from benchmarks.figures.ways_drawing import NAMES
from benchmarks.planning.latency_model import joined
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Candidate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS: dict[Way, tuple[str, str]] = {
    "device": ("^", LIGHT["series-1"]), "split": ("o", LIGHT["series-5"]), "edge": ("s", LIGHT["series-2"])
}  # fmt: skip
_PANEL_INCHES = 2.9
# A panel shows so many times the accuracy bound below the reference; what loses more is counted below it.
_BOUNDS_SHOWN, _MIN_POINTS_SHOWN = 4.0, 2.0
_LOGARITHMIC_FROM_RANGE = 8.0


def pareto_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure of a project; its table holds every candidate, those left out with their reasons."""
    return ReportFigure(
        "accuracy_against_latency",
        "Accuracy against latency and bytes",
        "Points: candidates by accuracy and latency, a panel for each link, and by accuracy and bytes",
        "Steps: the front, which no candidate beats in both. Ringed: chosen. Dashed: the accuracy bound. Left out for "
        "another reason than accuracy: not drawn, but in the table.",
        lambda layout: _draw(result, layout),
        _data(result),
        (_hidden_sentence(result),),
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the numbers of the points that no other is as good as in both and better in one, by cost.

    A point is a cost, which is better low, and a value, which is better high; of equal points the first stays.
    """
    order = sorted(range(len(points)), key=lambda number: (points[number][0], -points[number][1], number))
    kept: list[int] = []
    for number in order:
        if not kept or points[number][1] > points[kept[-1]][1]:
            kept.append(number)
    return kept


def _timed(candidate: Candidate) -> bool:
    return candidate.device_ms is not None and candidate.edge_ms is not None


def _fronts(result: ProjectSelection) -> list[list[int]]:
    """Return the numbers of the candidates on each link's front, then on that of bytes, where anything crosses."""
    candidates = result.selection.candidates
    timed = [number for number, candidate in enumerate(candidates) if _timed(candidate)]
    found = []
    for choice in result.selection.links:
        points = [(ms_on(candidates[i], choice), candidates[i].metric) for i in timed]
        found.append([timed[number] for number in front(points)])
    crossing = [number for number, candidate in enumerate(candidates) if candidate.payload_bytes > 0]
    by_bytes = front([(candidates[i].payload_bytes, candidates[i].metric) for i in crossing])
    return [*found, [crossing[number] for number in by_bytes]]


def _lowest_shown(result: ProjectSelection) -> float:
    shown = max(_MIN_POINTS_SHOWN, _BOUNDS_SHOWN * result.settings.maximum_loss_points)
    return 100 * result.reference - shown


def _hidden_sentence(result: ProjectSelection) -> str:
    drawn = [candidate for candidate in result.selection.candidates if _timed(candidate)]
    below = sum(100 * candidate.metric < _lowest_shown(result) for candidate in drawn)
    points = 100 * result.reference - _lowest_shown(result)
    counted = f"{len(drawn)} of {len(result.selection.candidates)} candidates have a latency"
    return f"{counted}; {below} of them lose more than {points:g} points and lie below the panels."


def _draw(result: ProjectSelection, layout: Layout) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    links = result.selection.links
    columns = 1 if layout.is_narrow else 2
    rows = -(-(len(links) + 1) // columns)
    figure = Figure(figsize=(layout.width_inches, 0.7 + _PANEL_INCHES * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    fronts = _fronts(result)
    for number, choice in enumerate(links):
        axes = panels.flat[number]
        points = [
            (i, ms_on(candidate, choice))
            for i, candidate in enumerate(result.selection.candidates)
            if _timed(candidate)
        ]
        _draw_panel(axes, result, points, fronts[number], [choice.candidate])
        title_panel(axes, f"{label(choice.link)}, {choice.goodput_bps / 1e6:g} Mbit/s")
        axes.set_xlabel("latency, ms")
    axes = panels.flat[len(links)]
    points = [(i, item.payload_bytes) for i, item in enumerate(result.selection.candidates) if item.payload_bytes > 0]
    _draw_panel(axes, result, points, fronts[-1], [choice.candidate for choice in links], in_bytes=True)
    title_panel(axes, "Bytes")
    axes.set_xlabel("mean payload, bytes")
    for unused in panels.flat[len(links) + 1 :]:
        unused.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{label(result.metric, 20)}, %")
        literal([axes.yaxis.label])
    lines = [
        Line2D([], [], color=_MARKS[way][1], marker=_MARKS[way][0], linestyle="none", label=NAMES[way]) for way in WAYS
    ]
    lines.append(Line2D([], [], color=LIGHT["ink"], linewidth=1.0, label="front"))
    figure.legend(handles=lines, loc="outside upper center", ncols=2 if layout.is_narrow else 4, frameon=False)
    return figure


def _draw_panel(
    axes: Axes, result: ProjectSelection, points: Sequence[tuple[int, float]], on_front: Sequence[int],
    chosen: Sequence[int], in_bytes: bool = False,
) -> None:  # fmt: skip
    """Draw one panel; `points`: number of a candidate and its cost; the others are numbers of candidates."""
    candidates, costs = result.selection.candidates, dict(points)
    shown = {i: cost for i, cost in points if 100 * candidates[i].metric >= _lowest_shown(result)}
    for way, (mark, colour) in _MARKS.items():
        here = [i for i in shown if way_of(candidates[i]) == way]
        axes.plot(
            [shown[i] for i in here], [100 * candidates[i].metric for i in here], mark, color=colour, markersize=4.5,
            markeredgewidth=0, alpha=0.75,
        )  # fmt: skip
    values = [100 * candidates[i].metric for i in on_front]
    axes.step([costs[i] for i in on_front], values, where="post", color=LIGHT["ink"], linewidth=1.0)
    ringed = [i for i in dict.fromkeys(chosen) if i in shown]
    axes.plot(
        [shown[i] for i in ringed], [100 * candidates[i].metric for i in ringed], "o", markersize=9,
        markerfacecolor="none", markeredgecolor=LIGHT["ink"], markeredgewidth=1.4, zorder=5,
    )  # fmt: skip
    bound = 100 * result.reference - result.settings.maximum_loss_points
    axes.axhline(bound, color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (5, 3)))
    best = max([100 * result.reference, *(100 * candidates[i].metric for i in shown)])
    room = 0.08 * (best - _lowest_shown(result))
    axes.set_ylim(_lowest_shown(result), best + room)
    _scale(axes, list(shown.values()), in_bytes)
    axes.grid()
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes: Axes, costs: Sequence[float], in_bytes: bool) -> None:
    """Make the axis of costs logarithmic where they differ by much."""
    from matplotlib.ticker import LogLocator

    low, high = min(costs, default=1.0), max(costs, default=1.0)
    if low > 0 and high / low > _LOGARITHMIC_FROM_RANGE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 1000 else (1.0,)))
        axes.minorticks_off()
        axes.set_xlim(low / 1.3, high * 1.3)
    else:
        axes.set_xlim(0, 1.08 * high)
    axes.xaxis.set_major_formatter(lambda value, _: short_bytes(value) if in_bytes else f"{value:g}")


def _data(result: ProjectSelection) -> FigureData:
    links = result.selection.links
    names = [*(f"on {choice.link}" for choice in links), "in bytes"]
    fronts = [set(found) for found in _fronts(result)]
    columns = (
        "number", "variant", "cut", "coding", "payload_bytes", f"{result.metric}_percent", "loss_points", "device_ms",
        "device_time_is", "edge_ms", "edge_time_is", *(f"{choice.link}, total_ms" for choice in links), "front",
        "chosen", "note", "left_out",
    )  # fmt: skip
    rows = []
    for number, candidate in enumerate(result.selection.candidates):
        timed = _timed(candidate)
        rows.append(
            (
                str(number),
                candidate.variant,
                candidate.layer,
                joined(candidate.coding, candidate.form),
                f"{candidate.payload_bytes:.1f}",
                f"{100 * candidate.metric:.2f}",
                f"{candidate.loss_points:.2f}",
                _known(candidate.device_ms),
                candidate.device_origin or "",
                _known(candidate.edge_ms),
                candidate.edge_origin or "",
                *(_known(ms_on(candidate, choice) if timed else None) for choice in links),
                ", ".join(name for name, found in zip(names, fronts, strict=True) if number in found),
                ", ".join(choice.link for choice in links if choice.candidate == number),
                candidate.note,
                candidate.reason,
            )
        )
    texts = ("variant", "cut", "coding", "device_time_is", "edge_time_is", "front", "chosen", "note", "left_out")
    return FigureData(columns, tuple(rows), tuple(name for name in columns if name not in texts))


def _known(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
