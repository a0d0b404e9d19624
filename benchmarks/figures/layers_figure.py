"""The first figure of the 2-step pruning paper (Shi et al. 2019), measured: bytes and time behind every layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from benchmarks.figures.layer_curves import (
    MOST_LAYERS,
    LayerCurves,
    errors_in_words,
    in_network_order,
    layer_curves,
)
from benchmarks.figures.palette import LIGHT
from benchmarks.figures.report_figure import FigureData, ReportFigure
from benchmarks.figures.svg import WIDE, Layout, label, literal, ms, short_bytes
from benchmarks.prediction.project_layers import NetworkTimes
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


def layers_figure(
    result: ProjectSelection, times: Mapping[str, NetworkTimes | str] | None = None
) -> ReportFigure:  # fmt: skip
    """Return the figure: for each layer, in network order, bytes on the wire and time up to it.

    Above, mean payload in bytes, logarithmic, one bar for each of `series_to_show`, with the image itself as lines;
    below, the time up to the layer on the edge's target in milliseconds. `times`: by variant, measured or predicted, or
    why there is none; where one is missing, the median latency of the heads that were measured stands there.
    """
    curves = layer_curves(_series(result), times or {})
    below = "median time of the head, up to the cut and its quantisation,"
    if isinstance(curves, LayerCurves):
        below = "time up to the layer, filled where a head was measured (without quantisation), hollow where predicted,"
    return ReportFigure(
        "bytes_and_time_per_layer",
        "Bytes and time per layer",
        "Bars: mean payload at each cut. Lines: time up to each layer",
        f"Above: mean bytes of one message, its header included. Below: {below} on target {timed_target(result)}, "
        "without device_slowdown.",
        lambda layout: draw_bytes_and_time(result, layout, times),
        _data(result, curves),
        (_fewest_bytes(result), *_about_times(curves)),
    )


def _series(result: ProjectSelection) -> tuple[CutSeries, ...]:
    return series_to_show(result.variants, result.reference, result.settings.maximum_loss_points)


def shown_variants(result: ProjectSelection) -> tuple[str, ...]:
    """Return the variants that the figure shows: those that `layers_figure` takes times of."""
    return tuple(dict.fromkeys(split.variant for item in _series(result) for split in item.splits))


def _about_times(curves: LayerCurves | str) -> list[str]:
    """Return in a sentence how sure predicted times are, or why there are none."""
    if isinstance(curves, str):
        return [f"Only heads that were measured have a time: {curves}."] if curves else []
    return [errors_in_words(curves)] if curves.any_predicted else []


def _fewest_bytes(result: ProjectSelection) -> str:
    """Return where the fewest bytes cross, beside the smallest image."""
    series = _series(result)
    splits = [split for item in series for split in item.splits]
    fewest = min(splits, key=lambda split: split.payload_bytes.mean, default=None)
    if fewest is None:
        return "No variant that is drawn here is split."
    image = min(item.payload_bytes.mean for item in result.variants[0].whole.inputs.values())
    return (
        f"Of these cuts the fewest bytes cross after {fewest.layer} of {fewest.variant}: "
        f"{fewest.payload_bytes.mean:.0f} on average. The smallest image has {image:.0f}."
    )


def _data(result: ProjectSelection, curves: LayerCurves | str) -> FigureData:
    columns = ("layer", "series", "variant", "mean_payload_bytes", "head_ms", "up_to_layer_ms", "up_to_layer_is")
    heads = head_ms(result)
    points = {} if isinstance(curves, str) else curves.points
    rows = []
    for layer, series in itertools.product(_all_layers(result, curves), _series(result)):
        splits = {split.variant: split for split in series.splits if split.layer == layer}
        times = {point.variant: point for point in points.get(series.name, ()) if point.layer == layer}
        for variant in dict.fromkeys((*splits, *times)):
            point, time_ms = times.get(variant), heads.get((variant, layer)) if variant in splits else None
            rows.append(
                (
                    layer,
                    series.name,
                    variant,
                    f"{splits[variant].payload_bytes.mean:.1f}" if variant in splits else "",
                    "" if time_ms is None else f"{time_ms:.4f}",
                    "" if point is None else f"{point.ms:.4f}",
                    "" if point is None else "measured" if point.is_measured else "predicted",
                )
            )
    for kind, item in result.variants[0].whole.inputs.items():
        name = kind if item.quality is None else f"{kind} q{item.quality}"
        rows.append(("input", name, result.variants[0].variant, f"{item.payload_bytes.mean:.1f}", "", "", ""))
    return FigureData(columns, tuple(rows), columns[3:6])


def _all_layers(result: ProjectSelection, curves: LayerCurves | str) -> list[str]:
    """Return the layers with a cut and those with a time, in network order."""
    timed = curves.layers if isinstance(curves, LayerCurves) else ()
    return in_network_order([timed, layers_in_order(result)])


def layers_in_order(result: ProjectSelection) -> list[str]:
    """Return all cut layers of all variants, in network order."""
    return in_network_order([split.layer for split in variant.splits] for variant in result.variants)


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


def draw_bytes_and_time(
    result: ProjectSelection, layout: Layout = WIDE, times: Mapping[str, NetworkTimes | str] | None = None
) -> Figure:
    """Draw the figure; `times` as for `layers_figure`."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    series = _series(result)
    curves = layer_curves(series, times or {})
    cut = {split.layer for item in series for split in item.splits}
    timed = set(curves.layers) if isinstance(curves, LayerCurves) else set()
    layers = [layer for layer in _all_layers(result, curves) if layer in cut | timed]
    if len(layers) > MOST_LAYERS:
        layers = [layer for layer in layers if layer in cut]
    figure = Figure(figsize=(layout.width_inches, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_bytes(above, result, series, layers, layout)
    if isinstance(curves, LayerCurves):
        _draw_curves(below, curves, series, layers)
    else:
        _draw_heads(below, result, series, layers)
    below.set_ylabel(f"ms up to the layer,\non target {label(timed_target(result))}")
    literal([below.yaxis.label])
    below.grid(axis="y")
    many = len(layers) > (12 if layout.is_narrow else 30)
    below.set_xticks(range(len(layers)), [label(layer) for layer in layers], rotation=90 if many else 50)
    for text in below.get_xticklabels():
        text.set(fontsize=6.5 if many else 8.5, rotation_mode="anchor", ha="right", va="center" if many else "top")
    literal(below.get_xticklabels())
    below.set_xlim(-0.6, max(len(layers), 1) - 0.4)
    below.set_xlabel("layer, in network order")
    entries = sorted(
        zip(*above.get_legend_handles_labels(), strict=True), key=lambda entry: isinstance(entry[0], Line2D)
    )
    if isinstance(curves, LayerCurves) and curves.any_predicted:
        hollow = Line2D(
            [], [], color=LIGHT["ink"], marker="o", markersize=4, linestyle="none", markerfacecolor=LIGHT["paper"]
        )
        entries.append((hollow, "hollow: predicted"))
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


def _draw_curves(axes: Axes, curves: LayerCurves, series: Sequence[CutSeries], layers: Sequence[str]) -> None:
    """Draw a line for each series, its points filled where a head was measured and hollow where they are predicted."""
    places = {layer: place for place, layer in enumerate(layers)}
    highest = 0.0
    for number, item in enumerate(series):
        known = [point for point in curves.points[item.name] if point.layer in places]
        points = sorted(((places[point.layer], point) for point in known), key=lambda placed: placed[0])
        colour, marker = _SERIES[number % len(_SERIES)], _MARKERS[number % len(_MARKERS)]
        axes.plot([x for x, _ in points], [point.ms for _, point in points], color=colour, linewidth=1.0)
        for is_measured, face in ((True, colour), (False, LIGHT["paper"])):
            of_kind = [(x, point.ms) for x, point in points if point.is_measured == is_measured]
            axes.plot(
                [x for x, _ in of_kind], [y for _, y in of_kind], color=colour, marker=marker, markersize=4,
                linestyle="none", markerfacecolor=face, zorder=3,
            )  # fmt: skip
        if points:
            last = (points[-1][0], points[-1][1].ms)
            _name_end(axes, last, number)
            highest = max(highest, *(point.ms for _, point in points))
    axes.set_ylim(0, 1.2 * (highest or 1.0))


def _name_end(axes: Axes, end: tuple[float, float], number: int) -> None:
    """Write one value for each line, at its end: the time of (nearly) all layers. Step 2 lies below step 1."""
    below = number >= 2
    axes.annotate(
        ms(end[1]), end, (0, -4 if below else 4), textcoords="offset points", ha="center",
        va="top" if below else "bottom", fontsize=7,
    )  # fmt: skip


def _draw_heads(axes: Axes, result: ProjectSelection, series: Sequence[CutSeries], layers: Sequence[str]) -> None:
    """Draw the medians of the heads that were measured, and nothing between."""
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
            _name_end(axes, known[-1], number)
    axes.set_ylim(0, 1.2 * max(shown, default=1.0))
