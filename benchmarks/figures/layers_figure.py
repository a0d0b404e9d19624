"""The first figure of the 2-step pruning paper (Shi et al. 2019), measured: bytes and time behind every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from benchmarks.figures.palette import LIGHT
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import WIDE, Layout, label, literal, ms, short_bytes
from benchmarks.selection.families import CutSeries, series_to_show
from benchmarks.selection.project_selection import ProjectSelection
from jetson.wire.image_message import ImageCoding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Variants and terms share no colour.
_SERIES = tuple(LIGHT[f"series-{number}"] for number in (1, 2, 3, 4))
_IMAGES = LIGHT["series-5"]
_MARKERS = ("o", "s", "^", "D")
_HATCHES = ("", "////", "", "....")
_MAX_BARS_WITH_VALUES = 48

_PICTURES = {"raw": "raw", "jpeg": "JPEG", "webp": "WebP"}
_DASHES: dict[str, Literal["-", "--", ":"]] = {"raw": "-", "jpeg": "--", "webp": ":"}


def layers_figure(result: ProjectSelection) -> ReportFigure:
    """Return the figure: for each cut, in network order, bytes on the wire and time up to it.

    Above, mean payload in bytes, logarithmic, one bar for each of `series_to_show`, with the image itself as lines;
    below, the median latency of the head on the edge's target in milliseconds.
    """
    return ReportFigure(
        "bytes_and_time_per_layer",
        "Bytes and time per layer",
        "Bars: mean payload at each cut. Lines: time up to each cut",
        "Above: mean bytes of one message, its header included. Below: median time of the head, up to the cut and its "
        f"quantisation, on target {timed_target(result)}, without device_slowdown.",
        lambda layout: draw_bytes_and_time(result, layout),
        _data(result),
        _sentences(result),
    )


def _sentences(result: ProjectSelection) -> tuple[str, ...]:
    """Return where the fewest bytes cross, beside the smallest image."""
    series = series_to_show(result.variants, result.reference, result.settings.maximum_loss_points)
    splits = [split for item in series for split in item.splits]
    fewest = min(splits, key=lambda split: split.payload_bytes.mean, default=None)
    if fewest is None:
        return ("No variant that is drawn here is split.",)
    image = min(item.payload_bytes.mean for item in result.variants[0].whole.inputs.values())
    return (
        f"Of these cuts the fewest bytes cross after {fewest.layer} of {fewest.variant}: "
        f"{fewest.payload_bytes.mean:.0f} on average. The smallest image has {image:.0f}.",
    )


def _data(result: ProjectSelection) -> FigureData:
    columns = ("layer", "series", "variant", "mean_payload_bytes", "head_ms")
    times = head_ms(result)
    rows = []
    for layer in layers_in_order(result):
        for series in series_to_show(result.variants, result.reference, result.settings.maximum_loss_points):
            for split in series.splits:
                if split.layer == layer:
                    time_ms = times.get((split.variant, layer))
                    mean = split.payload_bytes.mean
                    known = "" if time_ms is None else f"{time_ms:.4f}"
                    rows.append((layer, series.name, split.variant, f"{mean:.1f}", known))
    for kind, item in result.variants[0].whole.inputs.items():
        name = kind if item.quality is None else f"{kind} q{item.quality}"
        rows.append(("input", name, result.variants[0].variant, f"{item.payload_bytes.mean:.1f}", ""))
    return FigureData(columns, tuple(rows), columns[3:])


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


def timed_target(result: ProjectSelection) -> str:
    """Return the target whose heads are shown: the device's own where any was measured there, else the edge's."""
    device = result.settings.device_target
    return (
        device if device and any(row.target == device and row.part == "head" for row in result.rows) else result.target
    )


def head_ms(result: ProjectSelection) -> dict[tuple[str, str], float]:
    """Return the median latency of each head in milliseconds, by variant and layer; none of an older graph."""
    hashes = {(split.variant, split.layer): split.head.sha256 for item in result.variants for split in item.splits}
    return {
        (row.variant, row.layer): row.p50_ms
        for row in result.rows
        if row.part == "head"
        and row.target == timed_target(result)
        and hashes.get((row.variant, row.layer)) == row.source_sha256
    }


def draw_bytes_and_time(result: ProjectSelection, layout: Layout = WIDE) -> Figure:
    """Draw the figure."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    series = series_to_show(result.variants, result.reference, result.settings.maximum_loss_points)
    shown = {split.layer for item in series for split in item.splits}
    layers = [layer for layer in layers_in_order(result) if layer in shown]
    figure = Figure(figsize=(layout.width_inches, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_bytes(above, result, series, layers, layout)
    _draw_times(below, result, series, layers)
    many = len(layers) > (12 if layout.is_narrow else 30)
    below.set_xticks(range(len(layers)), [label(layer) for layer in layers], rotation=90 if many else 50)
    for text in below.get_xticklabels():
        text.set(fontsize=6.5 if many else 8.5, rotation_mode="anchor", ha="right", va="center" if many else "top")
    literal(below.get_xticklabels())
    below.set_xlim(-0.6, max(len(layers), 1) - 0.4)
    below.set_xlabel("cut after layer, in network order")
    entries = sorted(
        zip(*above.get_legend_handles_labels(), strict=True), key=lambda entry: isinstance(entry[0], Line2D)
    )
    handles, labels = zip(*entries, strict=True) if entries else ((), ())
    has_long_names = any(coding.is_resized for coding in result.variants[0].whole.codings())
    columns = 1 if layout.is_narrow else 2 if has_long_names else 3
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    literal(legend.get_texts())
    return figure


def _draw_bytes(
    axes: Axes, result: ProjectSelection, series: Sequence[CutSeries], layers: Sequence[str], layout: Layout
) -> None:
    width = 0.84 / len(series)
    with_values = len(layers) * len(series) <= _MAX_BARS_WITH_VALUES * layout.width_inches / WIDE.width_inches
    means = []
    for number, item in enumerate(series):
        sizes = {split.layer: split.payload_bytes.mean for split in item.splits if split.payload_bytes.mean > 0}
        offset = (number - (len(series) - 1) / 2) * width
        positions = [position + offset for position, layer in enumerate(layers) if layer in sizes]
        values = [sizes[layer] for layer in layers if layer in sizes]
        colour = _SERIES[number % len(_SERIES)]
        axes.bar(positions, values, width, color=colour, label=label(item.name, 40))
        means += values
        for position, value in zip(positions, values, strict=True):
            if with_values:
                axes.annotate(
                    short_bytes(value), (position, value), (0, 2.5), textcoords="offset points", rotation=90,
                    ha="center", va="bottom", fontsize=7,
                    bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 0.4},
                )  # fmt: skip
    whole = result.variants[0].whole
    for coding, item_of_kind in zip(whole.codings(), whole.inputs.values(), strict=True):
        mean = item_of_kind.payload_bytes.mean
        axes.axhline(
            mean, color=_IMAGES, linestyle=_DASHES[coding.codec], linewidth=0.8 if coding.is_resized else 1.5,
            label=f"{_named(coding)} ({short_bytes(mean)})",
        )  # fmt: skip
        means.append(mean)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: short_bytes(value))
    if means:
        axes.set_ylim(10 ** math.floor(math.log10(min(means)) - 0.1), max(means) * (6 if with_values else 1.5))
    axes.set_ylabel("mean payload, bytes")
    axes.grid(axis="y")


def _named(coding: ImageCoding) -> str:
    """Return what a line is called: "raw image", "resized JPEG image, quality 40"."""
    size, quality = "resized " * coding.is_resized, f", quality {coding.quality}" * (coding.quality is not None)
    return f"{size}{_PICTURES[coding.codec]} image{quality}"


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
            color=_SERIES[number % len(_SERIES)],
            marker=_MARKERS[number % len(_MARKERS)],
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
    axes.set_ylabel(f"median ms up to the cut,\non target {label(timed_target(result))}")
    literal([axes.yaxis.label])
    axes.grid(axis="y")
