"""The second figure of the 2-step pruning paper (Shi et al. 2019): what every way takes on every link, by term."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.figures.palette import LIGHT, OUTLINE
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import WIDE, Layout, label, literal, ms, title_panel
from benchmarks.planning.latency_model import joined
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT
from benchmarks.selection.terms import CHOSEN, Entry, Terms, best, compared, is_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_TERMS = tuple((name, LIGHT[f"term-{name}"], hatch) for name, hatch in
               (("device", ""), ("transmission", "////"), ("edge", "")))  # fmt: skip
_LOGARITHMIC_FROM_RANGE = 30.0
_NAME_ABOVE = 0.85  # of a row, from a bar up to its name


def links_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure: per link the end-to-end latency of baselines and choice, in milliseconds, by term."""
    return ReportFigure(
        "latency_per_network",
        "Latency per network and link",
        "Bars: end-to-end latency of each baseline and of the choice, per link, by term",
        "End-to-end latency: device computation, transmission, edge computation. Baselines stand whether or not they "
        "keep the accuracy bound (*).",
        lambda layout: draw_latency(result, layout),
        _data(result),
        ("Each bar adds up what the device computes, what crosses and what the edge computes.",),
    )


def _data(result: ProjectSelection) -> FigureData:
    columns = (
        "link", "goodput_bps", "round_trip_ms", "compared", "variant", "cut", "coding", "payload_bytes",
        f"{result.metric}_percent", "device_ms", "transmission_ms", "edge_ms", "total_ms", "left_out",
    )  # fmt: skip
    rows = []
    for choice in result.selection.links:
        for entry in compared(result.selection, choice):
            candidate, terms = entry.candidate, entry.terms
            rows.append(
                (
                    choice.link,
                    f"{choice.goodput_bps:.10g}",
                    f"{choice.round_trip_ms:.10g}",
                    entry.name,
                    candidate.variant,
                    candidate.layer,
                    joined(candidate.coding, candidate.form),
                    f"{candidate.payload_bytes:.1f}",
                    f"{100 * candidate.metric:.2f}",
                    f"{terms.device_ms:.4f}",
                    f"{terms.transmission_ms:.4f}",
                    f"{terms.edge_ms:.4f}",
                    f"{terms.total_ms:.4f}",
                    candidate.reason,
                )
            )
    return FigureData(columns, tuple(rows), (*columns[1:3], *columns[7:13]))


def draw_latency(result: ProjectSelection, layout: Layout = WIDE) -> Figure:
    """Draw the figure."""
    from matplotlib.figure import Figure

    links = [(choice, compared(result.selection, choice)) for choice in result.selection.links]
    totals = [entry.terms.total_ms for _, entries in links for entry in entries if entry.terms.total_ms > 0]
    least, most = min(totals, default=1.0), max(totals, default=1.0)
    logarithmic = most / least > _LOGARITHMIC_FROM_RANGE
    # The shortest bar keeps a quarter of the axis, so that its terms can be seen as well.
    start = least * (least / most) ** (1 / 3) if logarithmic else 0.0
    heights = [_rows(entries, layout)[-1] + 2.8 for _, entries in links]
    figure = Figure(figsize=(layout.width_inches, 1.0 + 0.19 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(links), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (choice, entries) in zip(panels, links, strict=True):
        trip = f", round trip {choice.round_trip_ms:g} ms" if choice.round_trip_ms > 0 else ""
        title_panel(axes, f"{label(choice.link)}, {choice.goodput_bps / 1e6:g} Mbit/s{trip}")
        room = 0.25 if layout.is_narrow else 0.14  # for the numbers behind the bars
        end = most * (most / start) ** room if logarithmic else most * (1 + room)
        _draw_link(axes, entries, start, end, layout)
    notes = ["logarithmic: terms divide a bar by their shares"] if logarithmic else []
    if any(entry.candidate.reason for _, entries in links for entry in entries):
        notes.append("* left out, see the table")
    panels[-1].set_xlabel("end-to-end latency, ms" + (f"\n({'; '.join(notes)})" if notes else ""))
    figure.legend(*_term_legend(), loc="outside upper right", ncols=1 if layout.is_narrow else 3, frameon=False)
    return figure


def _draw_link(axes: Axes, entries: Sequence[Entry], start: float, end: float, layout: Layout) -> None:
    """Draw one link: a bar for each entry, from the top; the axis goes from `start` (above 0: logarithmic) to `end`."""
    from matplotlib.ticker import LogLocator

    if start > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if end < 1000 * start else (1.0,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    rows = _rows(entries, layout)
    for row, entry in zip(rows, entries, strict=True):
        total, chosen = entry.terms.total_ms, entry.name == CHOSEN
        edges = [_position(share, total, start) for share in _shares(entry.terms)]
        for (_, colour, hatch), left, right in zip(_TERMS, edges[:-1], edges[1:], strict=True):
            axes.barh(row, right - left, 0.74, left, color=colour, hatch=hatch, edgecolor=OUTLINE, linewidth=0.4)
        if chosen:
            axes.axhspan(
                row - (_NAME_ABOVE + 0.35 if layout.is_narrow else 0.55), row + 0.55, color=LIGHT["band"], zorder=0
            )
        # The words fit behind a bar that ends in the left half of the axis.
        fits = chosen and total < _position(0.5, end, start)
        verdict = _verdict(entries, layout) if fits else ""
        axes.annotate(
            ms(total) + verdict, (edges[-1], row), (3, 0), textcoords="offset points",
            va="center", fontsize=8, fontweight="bold" if chosen else "normal",
        )  # fmt: skip
    _name_rows(axes, entries, rows, layout)
    axes.set_ylim(rows[-1] + 0.6, -(_NAME_ABOVE + 0.4) if layout.is_narrow else -0.6)
    axes.set_xlim(start, end)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines[["top", "right"]].set_visible(False)


def _name_rows(axes: Axes, entries: Sequence[Entry], rows: Sequence[float], layout: Layout) -> None:
    """Write the names of the bars: at their left, or above them where there is no room at the left."""
    names = [_name_of(entry) for entry in entries]
    if layout.is_narrow:
        axes.set_yticks([])
        texts = [
            axes.annotate(
                name, (0, row - _NAME_ABOVE), (1, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                va="center", fontsize=8,
            )
            for name, row in zip(names, rows, strict=True)
        ]  # fmt: skip
        literal(texts)
        texts[-1].set_fontweight("bold")
        return
    axes.set_yticks(rows, names)
    literal(axes.get_yticklabels())
    axes.get_yticklabels()[-1].set_fontweight("bold")


def _rows(entries: Sequence[Entry], layout: Layout) -> list[float]:
    """Return where the bars go, with a gap between the families and above the choice."""
    rows = [0.0]
    above = _NAME_ABOVE if layout.is_narrow else 0.0
    for before, entry in itertools.pairwise(entries):
        together = entry.name != CHOSEN and entry.candidate.compared_as == before.candidate.compared_as
        rows.append(rows[-1] + (1.0 if together else 1.45) + above)
    return rows


def _verdict(entries: Sequence[Entry], layout: Layout) -> str:
    """Return in a few words what the choice gains over the best candidate without a split."""
    unsplit, chosen = best(list(entries), split=False), entries[-1]
    if not is_split(chosen.candidate):
        return "" if layout.is_narrow else " (splitting gains nothing)"
    if unsplit is None:
        return ""
    ratio = unsplit.terms.total_ms / chosen.terms.total_ms
    return f" ({ratio:.2f}×)" if layout.is_narrow else f" ({ratio:.2f}× as fast as the best unsplit)"


def _shares(terms: Terms) -> list[float]:
    """Return where the terms end, from 0 to 1 of the total."""
    total = terms.total_ms or 1.0
    return [0.0, terms.device_ms / total, (terms.device_ms + terms.transmission_ms) / total, 1.0]


def _position(share: float, total: float, start: float) -> float:
    """Return where `share` of a bar of `total` ms ends; a bar begins at `start`, above 0 on a logarithmic axis."""
    return share * total if start <= 0 else start * (total / start) ** share


def _term_legend() -> tuple[list[Patch], list[str]]:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=colour, hatch=hatch, edgecolor=OUTLINE, linewidth=0.4) for _, colour, hatch in _TERMS]
    return patches, [f"{name}" if name == "transmission" else f"{name} computation" for name, _, _ in _TERMS]


def _name_of(entry: Entry) -> str:
    candidate = entry.candidate
    layer = label(candidate.layer, 20)
    if entry.name == CHOSEN:
        machine = "edge" if candidate.layer == INPUT else "device"
        where = f"cut after {layer}" if is_split(candidate) else f"all on the {machine}"
        return label(joined(f"chosen: {label(candidate.variant, 26)}, {where}", candidate.form), 56)
    which = layer if is_split(candidate) else ""
    if candidate.family:  # which of it; the name of a variant of step 2 says the layer, too
        variant = label(candidate.variant, 26)
        which = variant if not which or candidate.layer in candidate.variant else f"{variant}, {which}"
    which = joined(which, candidate.form)
    return label(entry.name + (f" ({which})" if which else ""), 54) + (" *" if candidate.reason else "")
