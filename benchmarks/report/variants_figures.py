"""Accuracy against multiply-accumulates and against feature bytes, a line for each layer that was pruned: SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.figures.svg import label, literal, render
from benchmarks.report.variants_table import Feature, VariantRow
from exporter.variants.plans import ORIGINAL
from exporter.variants.record import VariantRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quantity = Literal["macs", "bytes"]
# Okabe and Ito's colours without yellow, which is pale on white; then the same with other marks and dashes.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))
_SIZE_INCHES = (8.33, 7.0)
# Largest to smallest from which an axis is logarithmic, and from which it shows decades only.
_LOGARITHMIC_FROM_RANGE, _DECADES_FROM_RANGE = 5.0, 2000.0
# The upper half shows this many times the accuracy bound below the original, and at least so many points.
_BOUNDS_SHOWN, _MIN_POINTS_SHOWN = 4.0, 2.0


@dataclass(frozen=True)
class Point:
    """A variant in a figure: `x` MACs or bytes per sample, `value` and `interval` of its metric in hundredths."""

    x: float
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Line:
    """Variants that belong together, from wide to narrow."""

    name: str
    points: tuple[Point, ...]


def accuracy_figure(rows: Sequence[VariantRow], quantity: Quantity, metric: str, maximum_loss_points: float) -> bytes:
    """Return the figure as SVG: the metric with its 95 % intervals against `quantity`.

    Above the range around the accuracy bound, below all of it. Raises CoopexportError without matplotlib.
    """
    name = f"accuracy_against_{quantity}"
    return render(lambda: draw_accuracy(rows, quantity, metric, maximum_loss_points), name)


def step2_lines(rows: Sequence[VariantRow], quantity: Quantity) -> list[Line]:
    """Return a line for each layer of each series, beginning at the variant that it was made from, step 1.

    Layers where the same channels cross are one line against MACs, and one each against bytes, which differ. Bytes are
    those of messages where every cut was split, and those of symbols otherwise.
    """
    by_name = {row.record.variant: row for row in rows}
    on_wire = are_on_wire(rows)
    groups: dict[tuple[str, str], list[VariantRow]] = {}
    for row in rows:
        if row.record.step == "step2":
            names = [feature.layer for feature in row.own_features]
            for name in [", ".join(names)] if quantity == "macs" else names:
                groups.setdefault((row.record.series or "", name), []).append(row)
    lines = []
    for (series, layer), members in groups.items():
        parent = by_name.get(members[0].record.parent or "")
        start = [] if parent is None else [parent]
        points = [_point(row, layer, quantity, on_wire) for row in [*start, *members]]
        name = f"{series}: {layer}" if series else layer
        lines.append(Line(name, tuple(point for point in points if point is not None)))
    return lines + (bottleneck_lines(rows) if quantity == "bytes" else [])


def bottleneck_lines(rows: Sequence[VariantRow]) -> list[Line]:
    """Return, against bytes, a line for the bottlenecks of each parent and layer: of messages, where all were split."""
    groups: dict[str, list[VariantRow]] = {}
    for row in rows:
        if row.record.step == "bottleneck":
            parent = "" if row.record.parent == ORIGINAL else f"{row.record.parent}: "
            groups.setdefault(f"{parent}bottleneck at {row.record.method['layer']}", []).append(row)
    on_wire = all(one.wire_bytes is not None for members in groups.values() for row in members for one in row.features)
    return [
        Line(name, tuple(_at(row.record, _bytes(row.own_features[0], on_wire)) for row in members))
        for name, members in groups.items()
    ]


def are_on_wire(rows: Sequence[VariantRow]) -> bool:
    """Tell whether the messages of all step-2 variants, and of step 1 at their layers, have been measured."""
    shown = [row for row in rows if row.record.step in ("step1", "step2")]
    features = [feature for row in shown for feature in row.features]
    return bool(features) and all(feature.wire_bytes is not None for feature in features)


def _point(row: VariantRow, layer: str, quantity: Quantity, on_wire: bool) -> Point | None:
    if quantity == "macs":
        return _at(row.record, row.record.macs)
    feature = next((item for item in row.features if item.layer == layer), None)
    return None if feature is None else _at(row.record, _bytes(feature, on_wire))


def _bytes(feature: Feature, on_wire: bool) -> float:
    return feature.wire_bytes if on_wire and feature.wire_bytes is not None else feature.symbol_bytes


def _at(record: VariantRecord, x: float) -> Point:
    interval = record.interval
    ends = None if interval is None else (100 * interval[0], 100 * interval[1])
    return Point(x, 100 * record.metric.value, ends)


def single_points(rows: Sequence[VariantRow]) -> list[Line]:
    """Return, against MACs, what is not on the line: the pruned variant, step 1 and its controls, bottlenecks.

    The original, many times as large, would squeeze all others into a corner: it is a level with its MACs beside it.
    """
    names = {"given": "pruned", "step1": "step 1", "control": "controls of step 1", "bottleneck": "bottlenecks"}
    found: dict[str, list[Point]] = {}
    for row in rows:
        if row.record.step in names:
            found.setdefault(names[row.record.step], []).append(_at(row.record, row.record.macs))
    return [Line(name, tuple(points)) for name, points in found.items()]


def draw_accuracy(rows: Sequence[VariantRow], quantity: Quantity, metric: str, maximum_loss_points: float) -> Figure:
    """Draw one of the two figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    near, whole = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for axes in (near, whole):
        _draw(axes, rows, quantity, maximum_loss_points)
        axes.set_ylabel(f"{label(metric)}, %")
        literal([axes.yaxis.label])
    reference = 100 * rows[0].record.metric.reference
    best = max([reference, *(100 * row.record.metric.value for row in rows)])
    shown = max(_MIN_POINTS_SHOWN, _BOUNDS_SHOWN * maximum_loss_points)
    near.set_ylim(reference - shown, best + 0.15 * shown)
    near.set_title("around the accuracy bound", loc="left")
    whole.set_title("all", loc="left")
    if quantity == "macs":
        whole.set_xlabel("multiply-accumulates per sample")
    elif are_on_wire(rows):
        whole.set_xlabel("bytes on the wire at the cut, mean message")
    else:
        whole.set_xlabel("bytes of symbols at the cut, before entropy coding")
    handles, labels = near.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False)
    literal(legend.get_texts())
    return figure


def _draw(axes: Axes, rows: Sequence[VariantRow], quantity: Quantity, maximum_loss_points: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    reference = 100 * rows[0].record.metric.reference
    costs = f" with {short_count(rows[0].record.macs)} MACs" if quantity == "macs" else ""
    axes.axhline(reference, color="#666666", linewidth=0.8, label=f"original, {reference:.2f}{costs}")
    bound = reference - maximum_loss_points
    axes.axhline(bound, color="#666666", linewidth=0.8, linestyle=(0, (5, 3)), label=f"accuracy bound, {bound:.2f}")
    lines = step2_lines(rows, quantity)
    for number, line in enumerate(lines):
        mark, dashes = _MARKS[number // len(_COLOURS) % len(_MARKS)]
        _draw_line(axes, line, _COLOURS[number % len(_COLOURS)], mark, dashes)
    singles = single_points(rows) if quantity == "macs" else []
    for line, mark in zip(singles, ("*", "P", "x"), strict=False):
        _draw_line(axes, line, "#666666", mark, "none")
    values = [point.x for line in (*lines, *singles) for point in line.points]
    ratio = max(values) / min(values) if values and min(values) > 0 else 1.0
    if ratio > _LOGARITHMIC_FROM_RANGE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < _DECADES_FROM_RANGE else (1.0,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def short_count(value: float) -> str:
    """Return a number with three digits and `k` or `M`."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def _draw_line(axes: Axes, line: Line, colour: str, mark: str, dashes: str) -> None:
    """Draw one line with its intervals as bars."""
    points = line.points
    low = [point.value - (point.interval or (point.value,) * 2)[0] for point in points]
    high = [(point.interval or (point.value,) * 2)[1] - point.value for point in points]
    bars = axes.errorbar(
        [point.x for point in points], [point.value for point in points], yerr=[low, high], color=colour, marker=mark,
        markersize=4 if dashes != "none" else 7, linestyle=dashes, linewidth=1.1, elinewidth=0.6, capsize=1.5,
        label=label(line.name),
    )  # fmt: skip
    for bar in (*bars[1], *bars[2]):
        bar.set_alpha(0.45)
