"""The maps as a figure: where device, edge or split is fastest, with bottlenecks and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures.svg import render
from benchmarks.figures.ways_drawing import draw_ways
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Candidate
from benchmarks.studies.splitting.regions import map_of_splits
from exporter.variants.plans import ORIGINAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOODPUTS_BPS = tuple(np.geomspace(1e5, 1e8, 91).tolist())
SLOWDOWNS = tuple(np.geomspace(1, 50, 61).tolist())


def regions_figure(result: ProjectSelection) -> bytes:
    """Return the figure as SVG: goodput across, slowdown up; lines where the split is so many times faster."""
    return render(lambda: draw_regions(result), "where_splitting_pays")


def draw_regions(result: ProjectSelection) -> Figure:
    """Draw the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.33, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for one, bottlenecks in zip(axes, (False, True), strict=True):
        found = map_of_splits(
            result.selection.candidates, result.settings.device_slowdown, SLOWDOWNS, GOODPUTS_BPS,
            _any if bottlenecks else _without_bottleneck,
        )  # fmt: skip
        draw_ways(one, found, result.settings.goodput_bps, None)
        one.set_title("with bottlenecks" if bottlenecks else "without bottlenecks", fontsize=10, pad=16)
    axes[0].set_ylabel("device slower than this machine")
    return figure


def _any(_: Candidate) -> bool:
    return True


def _without_bottleneck(candidate: Candidate) -> bool:
    return candidate.variant == ORIGINAL
