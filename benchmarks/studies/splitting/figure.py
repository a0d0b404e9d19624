"""The maps as a figure: where device, edge or split is fastest, with bottlenecks and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.report.svg import literal, render
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.studies.splitting.page import at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, as in the report.
COLOURS = {"device": "#56B4E9", "split": "#009E73", "edge": "#CC79A7"}
WORDS = {"device": "all on the device", "split": "split", "edge": "all on the edge"}
GOODPUTS_BPS = np.geomspace(1e5, 1e8, 91)
SLOWDOWNS = np.geomspace(1, 50, 61)
GAINS = (1.2, 1.5, 2.0, 3.0)


def regions_figure(result: ProjectSelection) -> bytes:
    """Return the figure as SVG: goodput across, slowdown up; lines where the split is so many times faster."""
    return render(lambda: draw_regions(result), "where_splitting_pays")


def draw_regions(result: ProjectSelection) -> Figure:
    """Draw the figure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(8.33, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for one, bottlenecks in zip(axes, (False, True), strict=True):
        _draw(one, result, bottlenecks)
    axes[0].set_ylabel("device slower by")
    patches = [Patch(color=colour, label=WORDS[way]) for way, colour in COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axes: Axes, result: ProjectSelection, bottlenecks: bool) -> None:
    from matplotlib.colors import ListedColormap

    ways = list(COLOURS)
    found = [[at(result, slowdown, goodput, bottlenecks) for goodput in GOODPUTS_BPS] for slowdown in SLOWDOWNS]
    places = np.array([[ways.index(one.way) for one in row] for row in found])
    gains = np.array([[one.gain for one in row] for row in found])
    across = GOODPUTS_BPS / 1e6
    axes.pcolormesh(across, SLOWDOWNS, places, cmap=ListedColormap(list(COLOURS.values())), vmin=0, vmax=len(ways) - 1)
    drawn = [gain for gain in GAINS if gains.min() < gain < gains.max()]
    if drawn:
        lines = axes.contour(across, SLOWDOWNS, gains, levels=drawn, colors="white", linewidths=0.8)
        literal(axes.clabel(lines, fmt="%gx", fontsize=8))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title("with bottlenecks" if bottlenecks else "without", fontsize=10)
    axes.set_xlabel("goodput, Mbit/s")
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.set_yticks([1, 2, 5, 10, 20, 50], ["1x", "2x", "5x", "10x", "20x", "50x"])
    axes.minorticks_off()
    for link, goodput in result.settings.goodput_bps.items():
        axes.axvline(goodput / 1e6, color="black", linewidth=0.6, linestyle=":")
        place = axes.get_xaxis_transform()
        axes.text(goodput / 1e6, 0.02, link, transform=place, ha="right", va="bottom", fontsize=7, rotation=90)
