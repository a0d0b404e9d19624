"""The lower half of the figure over layers: time up to each layer, measured or predicted, for each series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.prediction.project_layers import NetworkTimes
from benchmarks.selection.families import CutSeries

# With more, their names cannot be read: then only layers with a cut are drawn.
MOST_LAYERS = 60


@dataclass(frozen=True)
class LayerPoint:
    """The time of `variant` up to `layer`, in milliseconds; `is_measured`: a head that ends there was."""

    layer: str
    variant: str
    ms: float
    is_measured: bool


@dataclass(frozen=True)
class LayerCurves:
    """A curve for each series, by its name; `layers`: all of its networks', in order. `errors`: see `NetworkTimes`."""

    points: Mapping[str, tuple[LayerPoint, ...]]
    layers: tuple[str, ...]
    errors: tuple[float, ...]

    @property
    def any_predicted(self) -> bool:
        """Tell whether any point is predicted."""
        return any(not point.is_measured for points in self.points.values() for point in points)


def layer_curves(series: Sequence[CutSeries], times: Mapping[str, NetworkTimes | str]) -> LayerCurves | str:
    """Return the curves of `series`, or why there are none: all their variants have one in `times`, or nothing is said.

    A series of one variant has all layers of its network; one of several, each layer where it is cut.
    """
    found: dict[str, NetworkTimes] = {}
    for variant in dict.fromkeys(split.variant for item in series for split in item.splits):
        of_variant = times.get(variant, "")
        if isinstance(of_variant, str):
            return of_variant
        found[variant] = of_variant
    points: dict[str, tuple[LayerPoint, ...]] = {}
    for item in series:
        variants = {split.variant for split in item.splits}
        cuts = {(split.variant, split.layer) for split in item.splits}
        points[item.name] = tuple(
            LayerPoint(time.layer, variant, time.ms, time.origin == "measured")
            for variant in sorted(variants)
            for time in found[variant].times
            if len(variants) == 1 or (variant, time.layer) in cuts
        )
    layers = in_network_order([time.layer for time in item.times] for item in found.values())
    return LayerCurves(points, tuple(layers), tuple(error for item in found.values() for error in item.errors))


def in_network_order(orders: Iterable[Iterable[str]]) -> list[str]:
    """Return the layers of several networks in one order: what is new comes right behind the one before it."""
    merged: list[str] = []
    for order in orders:
        position = 0
        for layer in order:
            if layer in merged:
                position = merged.index(layer) + 1
            else:
                merged.insert(position, layer)
                position += 1
    return merged


def errors_in_words(curves: LayerCurves) -> str:
    """Return in a sentence how far predicted times are off."""
    if not curves.errors:
        return "How far predictions are off is not known: too few heads were measured to leave one out."
    sizes = np.abs(np.array(curves.errors))
    return (
        f"Each of {len(sizes)} measured layers, predicted from the other cuts, is off by {np.median(sizes):.0%} in the "
        f"median and {sizes.max():.0%} at worst."
    )
