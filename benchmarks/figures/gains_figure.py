"""The figure of where each gain comes from: a bar for each stage on each link, saved right, paid left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.figures.gain_sources import GainSources, gain_sources
from benchmarks.figures.palette import LIGHT, OUTLINE
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import Layout, label, ms, title_panel
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Selection, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COMPUTATION, _TRANSMISSION, _MOVED, _UNKNOWN = "computation", "transmission", "moved cut", "not told apart"
# Device and edge compute; the hue of computation is the device's, as in the figure of terms.
_PARTS = {
    _COMPUTATION: (LIGHT["term-device"], ""),
    _TRANSMISSION: (LIGHT["term-transmission"], "////"),
    _MOVED: (LIGHT["series-5"], "\\\\\\\\"),
    _UNKNOWN: (LIGHT["series-4"], ""),
}
_ADDED = {
    "splitting": "splitting the original", "pruning": "pruning", "step 1": "step 1", "step 2": "step 2",
    "bottlenecks": "bottlenecks",
}  # fmt: skip


def gains_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure of a project."""
    found = gain_sources(result.selection)
    return ReportFigure(
        "where_gains_come_from",
        "Where each gain comes from",
        "Bars: milliseconds that each stage saves on each link, by computation, transmission and moved cut",
        "Right of 0: saved; left: paid for it. Each bar: the best within the accuracy bound with all stages so far, "
        "against the best with one stage less; the first against the original without a cut. At the right: "
        "milliseconds before and after.",
        lambda layout: _draw(found, layout),
        _data(result.selection, found),
        (
            *(() if found else ("No stage has a candidate of the original before it: no gain is shown.",)),
            "Computation and transmission are compared at the same cut; moving the cut is what remains. Where the new "
            "network was not measured at the old cut, the cut is moved first: the table has the order.",
        ),
    )


def parts_of(gain: GainSources) -> dict[str, float]:
    """Return what each part saves in milliseconds; the whole as one where the parts are not known."""
    if gain.computation_ms is None or gain.transmission_ms is None or gain.moved_cut_ms is None:
        return {_UNKNOWN: gain.saved_ms}
    return {_COMPUTATION: gain.computation_ms, _TRANSMISSION: gain.transmission_ms, _MOVED: gain.moved_cut_ms}


def _draw(found: Sequence[GainSources], layout: Layout) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if not found:
        figure = Figure(figsize=(layout.width_inches, 0.8), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing to compare", ha="center", va="center")
        return figure
    links = list(dict.fromkeys(gain.link.link for gain in found))
    by_link = {link: [gain for gain in found if gain.link.link == link] for link in links}
    heights = [len(gains) + 1.6 for gains in by_link.values()]
    pitch = 0.42 if layout.is_narrow else 0.27
    figure = Figure(figsize=(layout.width_inches, 0.9 + pitch * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    low = min([0.0, *(sum(part for part in parts_of(gain).values() if part < 0) for gain in found)])
    high = max([0.001, *(sum(part for part in parts_of(gain).values() if part > 0) for gain in found)])
    for axes, gains in zip(panels, by_link.values(), strict=True):
        _draw_link(axes, gains, layout)
        room = 0.42 if layout.is_narrow else 0.2  # for the numbers at the right
        axes.set_xlim(low - 0.03 * (high - low), high + room * (high - low))
    panels[-1].set_xlabel("milliseconds saved")
    shown = {part for gain in found for part in parts_of(gain)}
    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=OUTLINE, linewidth=0.4, label=part)
        for part, (colour, hatch) in _PARTS.items()
        if part in shown
    ]
    figure.legend(handles=patches, loc="outside upper center", ncols=2 if layout.is_narrow else 4, frameon=False)
    return figure


def _draw_link(axes: Axes, gains: Sequence[GainSources], layout: Layout) -> None:
    for row, gain in enumerate(gains):
        ends = {True: 0.0, False: 0.0}
        for part, saved in parts_of(gain).items():
            colour, hatch = _PARTS[part]
            right = saved >= 0
            axes.barh(row, saved, 0.7, ends[right], color=colour, hatch=hatch, edgecolor=OUTLINE, linewidth=0.4)
            ends[right] += saved
        changed = "no change" if gain.before == gain.after else f"{ms(gain.before_ms)} → {ms(gain.after_ms)}"
        axes.annotate(changed, (ends[True], row), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_yticks(range(len(gains)), [_ADDED[gain.stage] if not layout.is_narrow else gain.stage for gain in gains])
    axes.set_ylim(len(gains) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    choice = gains[0].link
    title_panel(axes, f"{label(choice.link)}, {choice.goodput_bps / 1e6:g} Mbit/s")
    axes.grid(axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _data(selection: Selection, found: Sequence[GainSources]) -> FigureData:
    columns = (
        "link", "goodput_bps", "stage", "before", "after", "before_ms", "after_ms", "saved_ms", "computation_ms",
        "transmission_ms", "moved_cut_ms", "order",
    )  # fmt: skip
    rows = [
        (
            gain.link.link,
            f"{gain.link.goodput_bps:.10g}",
            gain.stage,
            describe(selection.candidates[gain.before]),
            describe(selection.candidates[gain.after]),
            *(_known(value) for value in (gain.before_ms, gain.after_ms, gain.saved_ms, gain.computation_ms,
                                          gain.transmission_ms, gain.moved_cut_ms)),
            gain.order or _UNKNOWN,
        )
        for gain in found
    ]  # fmt: skip
    return FigureData(columns, tuple(rows), ("goodput_bps", *columns[5:11]))


def _known(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
