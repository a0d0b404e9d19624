"""The two figures of the 2-step pruning paper (Shi et al. 2019), from what was measured: deterministic SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.report.svg import label, literal, ms, render, short_bytes
from benchmarks.selection.families import CutSeries, series_to_show
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT
from benchmarks.selection.terms import CHOSEN, Entry, Terms, best, compared, is_split

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

# Okabe and Ito's colours: told apart with every kind of colour vision. Variants and terms share none of them.
_VARIANT_COLOURS = ("#0072B2", "#D55E00", "#000000", "#999999")
_TERMS = (("device", "#56B4E9", ""), ("transmission", "#F0E442", "////"), ("edge", "#CC79A7", ""))
_VARIANT_MARKERS = ("o", "s", "^", "D")
_WIDTH_INCHES = 8.33  # 600 points: 800 pixels in a browser
_MAX_BARS_WITH_VALUES = 48
_LOGARITHMIC_FROM_RANGE = 30.0

_PICTURES = {"jpeg": "JPEG", "webp": "WebP"}


def bytes_and_time_per_layer(result: ProjectSelection) -> bytes:
    """Return the first figure as SVG: for each cut, in network order, bytes on the wire and time up to it.

    Above, mean payload in bytes, logarithmic, one bar for each of `series_to_show`, with the image itself as lines;
    below, the median latency of the head on the edge's target in milliseconds. Raises CoopexportError without
    matplotlib.
    """
    return render(lambda: draw_bytes_and_time(result), "bytes_and_time_per_layer")


def latency_per_network(result: ProjectSelection) -> bytes:
    """Return the second figure as SVG: per link the end-to-end latency of baselines and choice, in milliseconds.

    Each bar is divided into device, transmission and edge. Raises CoopexportError without matplotlib.
    """
    return render(lambda: draw_latency(result), "latency_per_network")


def layers_in_order(result: ProjectSelection) -> list[str]:
    """Return all cut layers of all variants, in network order."""
    order: list[str] = []
    for variant in result.variants:
        position = 0
        for split in variant.splits:
            if split.layer in order:
                position = order.index(split.layer) + 1
            else:
                order.insert(position, split.layer)
                position += 1
    return order


def head_ms(result: ProjectSelection) -> dict[tuple[str, str], float]:
    """Return the median latency of each head in milliseconds, by variant and layer; none of an older graph."""
    hashes = {(split.variant, split.layer): split.head.sha256 for item in result.variants for split in item.splits}
    return {
        (row.variant, row.layer): row.p50_ms
        for row in result.rows
        if row.part == "head" and hashes.get((row.variant, row.layer)) == row.source_sha256
    }


def draw_bytes_and_time(result: ProjectSelection) -> Figure:
    """Draw the first figure."""
    from matplotlib.figure import Figure

    layers = layers_in_order(result)
    series = series_to_show(result.variants, result.reference, result.settings.maximum_loss_points)
    figure = Figure(figsize=(_WIDTH_INCHES, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_bytes(above, result, series, layers)
    _draw_times(below, result, series, layers)
    many = len(layers) > 30
    below.set_xticks(range(len(layers)), [label(layer) for layer in layers], rotation=90 if many else 50)
    for text in below.get_xticklabels():
        text.set(fontsize=6.5 if many else 8.5, rotation_mode="anchor", ha="right", va="center" if many else "top")
    literal(below.get_xticklabels())
    below.set_xlim(-0.6, max(len(layers), 1) - 0.4)
    below.set_xlabel("cut after layer, in network order")
    handles, labels = above.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    literal(legend.get_texts())
    return figure


def _draw_bytes(axes: Axes, result: ProjectSelection, series: Sequence[CutSeries], layers: Sequence[str]) -> None:
    width = 0.84 / len(series)
    with_values = len(layers) * len(series) <= _MAX_BARS_WITH_VALUES
    means = []
    for number, item in enumerate(series):
        sizes = {split.layer: split.payload_bytes.mean for split in item.splits if split.payload_bytes.mean > 0}
        offset = (number - (len(series) - 1) / 2) * width
        positions = [position + offset for position, layer in enumerate(layers) if layer in sizes]
        values = [sizes[layer] for layer in layers if layer in sizes]
        colour = _VARIANT_COLOURS[number % len(_VARIANT_COLOURS)]
        axes.bar(positions, values, width, color=colour, label=label(item.name, 40))
        means += values
        for position, value in zip(positions, values, strict=True):
            if with_values:
                axes.annotate(
                    short_bytes(value), (position, value), (0, 2.5), textcoords="offset points", rotation=90,
                    ha="center", va="bottom", fontsize=7, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
                )  # fmt: skip
    images = result.variants[0].whole.inputs
    for kind, dashes in (("raw", "-"), ("jpeg", "--"), ("webp", ":")):
        item_of_kind = {str(name): item for name, item in images.items()}.get(kind)
        if item_of_kind is not None:
            mean = item_of_kind.payload_bytes.mean
            name = "raw image" if kind == "raw" else f"{_PICTURES[kind]} image, quality {item_of_kind.quality}"
            axes.axhline(mean, color="#009E73", linestyle=dashes, label=f"{name} ({short_bytes(mean)})")
            means.append(mean)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: short_bytes(value))
    if means:
        axes.set_ylim(10 ** math.floor(math.log10(min(means)) - 0.1), max(means) * (6 if with_values else 1.5))
    axes.set_ylabel("mean payload, bytes")
    axes.grid(axis="y", alpha=0.3)


def _draw_times(axes: Axes, result: ProjectSelection, series: Sequence[CutSeries], layers: Sequence[str]) -> None:
    times = head_ms(result)
    shown = []
    for number, item in enumerate(series):
        places = {layers.index(split.layer): times.get((split.variant, split.layer)) for split in item.splits}
        known = [(x, place_ms) for x, place_ms in sorted(places.items()) if place_ms is not None]
        shown += [place_ms for _, place_ms in known]
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            color=_VARIANT_COLOURS[number % len(_VARIANT_COLOURS)],
            marker=_VARIANT_MARKERS[number % len(_VARIANT_MARKERS)],
            markersize=4,
        )
        if known:
            # One value for each line, at its end: the time of (nearly) all convolutions. Step 2 lies below step 1.
            below = number >= 2
            axes.annotate(
                ms(known[-1][1]), known[-1], (0, -4 if below else 4), textcoords="offset points", ha="center",
                va="top" if below else "bottom", fontsize=7,
            )  # fmt: skip
    axes.set_ylim(0, 1.2 * max(shown, default=1.0))
    axes.set_ylabel(f"median ms up to the cut,\non target {label(result.target)}")
    literal([axes.yaxis.label])
    axes.grid(axis="y", alpha=0.3)


def draw_latency(result: ProjectSelection) -> Figure:
    """Draw the second figure."""
    from matplotlib.figure import Figure

    links = [(choice, compared(result.selection, choice)) for choice in result.selection.links]
    totals = [entry.terms.total_ms for _, entries in links for entry in entries if entry.terms.total_ms > 0]
    least, most = min(totals, default=1.0), max(totals, default=1.0)
    logarithmic = most / least > _LOGARITHMIC_FROM_RANGE
    # The shortest bar keeps a quarter of the axis, so that its terms can be seen as well.
    start = least * (least / most) ** (1 / 3) if logarithmic else 0.0
    heights = [_rows(entries)[-1] + 2.8 for _, entries in links]
    figure = Figure(figsize=(_WIDTH_INCHES, 1.0 + 0.19 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(links), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (choice, entries) in zip(panels, links, strict=True):
        axes.set_title(
            f"{label(choice.link)}, {choice.goodput_bps / 1e6:g} Mbit/s", loc="left", fontsize=9.5, fontweight="bold"
        )
        literal([axes.title, axes._left_title])
        _draw_link(axes, entries, start, most * (most / start) ** 0.14 if logarithmic else most * 1.14)
    notes = ["logarithmic: terms divide a bar by their shares"] if logarithmic else []
    if any(entry.candidate.reason for _, entries in links for entry in entries):
        notes.append("* left out, see the table")
    panels[-1].set_xlabel("end-to-end latency, ms" + (f"\n({'; '.join(notes)})" if notes else ""))
    figure.legend(*_term_legend(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def _draw_link(axes: Axes, entries: Sequence[Entry], start: float, end: float) -> None:
    """Draw one link: a bar for each entry, from the top; the axis goes from `start` (above 0: logarithmic) to `end`."""
    from matplotlib.ticker import LogLocator

    if start > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if end < 1000 * start else (1.0,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rows = _rows(entries)
    for row, entry in zip(rows, entries, strict=True):
        total, chosen = entry.terms.total_ms, entry.name == CHOSEN
        edges = [_position(share, total, start) for share in _shares(entry.terms)]
        for (_, colour, hatch), left, right in zip(_TERMS, edges[:-1], edges[1:], strict=True):
            axes.barh(row, right - left, 0.74, left, color=colour, hatch=hatch, edgecolor="#333333", linewidth=0.4)
        if chosen:
            axes.axhspan(row - 0.55, row + 0.55, color="#e8e8e8", zorder=0)
        # The words fit behind a bar that ends in the left half of the axis.
        verdict = _verdict(entries) if chosen and total < _position(0.5, end, start) else ""
        axes.annotate(
            ms(total) + verdict, (edges[-1], row), (3, 0), textcoords="offset points",
            va="center", fontsize=8, fontweight="bold" if chosen else "normal",
        )  # fmt: skip
    axes.set_yticks(rows, [_name_of(entry) for entry in entries])
    literal(axes.get_yticklabels())
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.set_xlim(start, end)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _rows(entries: Sequence[Entry]) -> list[float]:
    """Return where the bars go, with a gap between the families and above the choice."""
    rows = [0.0]
    for before, entry in itertools.pairwise(entries):
        together = entry.name != CHOSEN and entry.candidate.compared_as == before.candidate.compared_as
        rows.append(rows[-1] + (1.0 if together else 1.45))
    return rows


def _verdict(entries: Sequence[Entry]) -> str:
    """Return in a few words what the choice gains over the best candidate without a split."""
    unsplit, chosen = best(list(entries), split=False), entries[-1]
    if not is_split(chosen.candidate):
        return " (splitting gains nothing)"
    if unsplit is None:
        return ""
    return f" ({unsplit.terms.total_ms / chosen.terms.total_ms:.2f}× as fast as the best unsplit)"


def _shares(terms: Terms) -> list[float]:
    """Return where the terms end, from 0 to 1 of the total."""
    total = terms.total_ms or 1.0
    return [0.0, terms.device_ms / total, (terms.device_ms + terms.transmission_ms) / total, 1.0]


def _position(share: float, total: float, start: float) -> float:
    """Return where `share` of a bar of `total` ms ends; a bar begins at `start`, above 0 on a logarithmic axis."""
    return share * total if start <= 0 else start * (total / start) ** share


def _term_legend() -> tuple[list[Patch], list[str]]:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=colour, hatch=hatch, edgecolor="#333333", linewidth=0.4) for _, colour, hatch in _TERMS]
    return patches, [f"{name}" if name == "transmission" else f"{name} computation" for name, _, _ in _TERMS]


def _name_of(entry: Entry) -> str:
    candidate = entry.candidate
    layer = label(candidate.layer, 20)
    if entry.name == CHOSEN:
        machine = "edge" if candidate.layer == INPUT else "device"
        where = f"cut after {layer}" if is_split(candidate) else f"all on the {machine}"
        return label(f"chosen: {label(candidate.variant, 16)}, {where}", 50)
    which = layer if is_split(candidate) else ""
    if candidate.family:  # which of it; the name of a variant of step 2 says the layer, too
        variant = label(candidate.variant, 20)
        which = variant if not which or candidate.layer in candidate.variant else f"{variant}, {which}"
    return label(entry.name + (f" ({which})" if which else ""), 44) + (" *" if candidate.reason else "")
