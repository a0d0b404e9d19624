"""The drawing of where device, edge or split is fastest: goodput across, slowdown of the device up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.figures.palette import LIGHT
from benchmarks.figures.svg import label, literal, with_room
from benchmarks.figures.ways import Way, WayMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

NAMES: dict[Way, str] = {"device": "all on the device", "split": "split", "edge": "all on the edge"}
GAINS = (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
# Of the map, from which a region has room for its name.
_SMALLEST_NAMED_SHARE = 0.02
_TICKS = (1, 2, 5)
_WORD_SHAPE = 5
# Boundaries are drawn where a logarithm of ratios is 0; farther from there than this it need not be known.
_FARTHEST = 3.0


def draw_ways(
    axes: Axes, found: WayMap, links: Mapping[str, float], slowdown: float | None, line_name: str = ""
) -> None:
    """Draw the map with names in its regions, lines of equal gain, links (bits per second) and the slowdown.

    `slowdown`: where the line `line_name` goes; None for none.
    """
    across, up = found.goodputs_bps / 1e6, found.slowdowns
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    _draw_regions(axes, found, across)
    names = _name_regions(axes, found, across)
    _draw_gains(axes, found, across, names)
    _mark_links(axes, links, slowdown)
    if slowdown is not None:
        axes.axhline(slowdown, color=LIGHT["ink"], linewidth=0.9, linestyle=(0, (6, 2)))
        text = axes.annotate(
            label(line_name), (0.995, slowdown), (0, 2.5), textcoords="offset points",
            xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5,
        )  # fmt: skip
        literal([text])
    axes.set_xlabel("goodput, Mbit/s")
    axes.set_xticks(*_ticks(across, (1,)))
    axes.set_yticks(*_ticks(up, _TICKS, "×"))
    axes.minorticks_off()


def _ticks(values: npt.NDArray[np.float64], steps: Sequence[int], unit: str = "") -> tuple[list[float], list[str]]:
    decades = range(int(np.floor(np.log10(values[0]))), int(np.ceil(np.log10(values[-1]))) + 1)
    places = [step * 10.0**decade for decade in decades for step in steps]
    places = [place for place in places if values[0] / 1.001 <= place <= values[-1] * 1.001]
    return places, [f"{place:g}{unit}" for place in places]


def _draw_regions(axes: Axes, found: WayMap, across: npt.NDArray[np.float64]) -> None:
    ways: list[Way] = ["edge", "device", "split"]
    known = [way for way in ways if np.isfinite(found.fastest_ms[way]).any()]
    # Whatever is fastest somewhere else covers this, so that no gap is left where three regions meet.
    axes.set_facecolor(LIGHT[f"way-{known[0]}"])
    for way in known[1:]:
        ahead = _ahead(found, way)
        axes.contourf(across, found.slowdowns, ahead, levels=[0.0, 2 * _FARTHEST], colors=[LIGHT[f"way-{way}"]])
        if ahead.min() < 0 < ahead.max():
            axes.contour(across, found.slowdowns, ahead, levels=[0.0], colors=[LIGHT["ink"]], linewidths=0.8)


def _ahead(found: WayMap, way: Way) -> npt.NDArray[np.float64]:
    """Return the logarithm of how many times as fast a way is as the best of the others, not beyond `_FARTHEST`."""
    others = np.minimum.reduce([times for other, times in found.fastest_ms.items() if other != way])
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = np.log(others / found.fastest_ms[way])
    clipped: npt.NDArray[np.float64] = np.clip(np.nan_to_num(ahead, nan=-_FARTHEST), -_FARTHEST, _FARTHEST)
    return clipped


def _draw_gains(axes: Axes, found: WayMap, across: npt.NDArray[np.float64], names: Sequence[Text]) -> None:
    """Draw lines of equal gain with their numbers, but for numbers where a region's name is."""
    gains = np.nan_to_num(found.gains, posinf=0.0)
    levels = [gain for gain in GAINS if gains.min() < gain < gains.max()]
    if levels:
        lines = axes.contour(
            across, found.slowdowns, gains, levels=levels, colors=[LIGHT["ink"]], linewidths=0.7, linestyles=":"
        )
        numbers = axes.clabel(lines, fmt="%g×", fontsize=7.5, inline_spacing=2)
        literal(numbers)
        taken = [_share(axes, name) for name in names]
        for number in numbers:
            right, up = _share(axes, number)
            number.set_visible(not any(abs(right - x) < 0.16 and abs(up - y) < 0.09 for x, y in taken))


def _share(axes: Axes, text: Text) -> tuple[float, float]:
    """Return where a text stands, from 0 to 1 of the axes to the right and up."""
    right, up = axes.transLimits.transform(axes.transScale.transform(text.get_position()))
    return float(right), float(up)


def _name_regions(axes: Axes, found: WayMap, across: npt.NDArray[np.float64]) -> list[Text]:
    """Write the name of each region that has room for it, and return the texts."""
    texts = []
    rows, columns = found.fastest_ms["device"].shape
    places = np.array([[found.way_at(row, column) for column in range(columns)] for row in range(rows)])
    for way, name in NAMES.items():
        inside = places == way
        if inside.mean() >= _SMALLEST_NAMED_SHARE:
            row, column = _deepest(inside)
            text = axes.text(
                across[column], found.slowdowns[row], name, ha="center", va="center", fontweight="bold",
                bbox={"facecolor": LIGHT[f"way-{way}"], "edgecolor": "none", "pad": 1.5}, zorder=4,
            )  # fmt: skip
            texts.append(text)
    return texts


def _deepest(inside: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Return the point farthest from the border of a region, in steps along rows and columns, first in reading order.

    Words need more room across than up: a step up counts as much as `_WORD_SHAPE` across.
    """
    left, layer = np.pad(inside, 1), inside
    while True:
        shrunk = left.copy()
        shrunk[1:-1, 1:-1] &= left[:-2, 1:-1] & left[2:, 1:-1]
        for _ in range(_WORD_SHAPE):
            wide = shrunk.copy()
            wide[1:-1, 1:-1] &= shrunk[1:-1, :-2] & shrunk[1:-1, 2:]
            shrunk = wide
        left = shrunk
        if not left.any():
            places = np.argwhere(layer)
            row, column = places[len(places) // 2]
            return int(row), int(column)
        layer = left[1:-1, 1:-1]


def _mark_links(axes: Axes, links: Mapping[str, float], slowdown: float | None) -> None:
    places = sorted(links.items(), key=lambda item: item[1])
    distances = np.diff(np.log([place for _, place in places]))
    span = np.log(axes.get_xlim()[1] / axes.get_xlim()[0])
    crowded = len(places) > 1 and bool(distances.min() / span < 0.12)
    named = with_room([np.log(place) / span for _, place in places], 0.045)
    for (name, goodput), has_room in zip(places, named, strict=True):
        axes.axvline(goodput / 1e6, color=LIGHT["ink"], linewidth=0.9, linestyle=(0, (6, 2)))
        text = axes.annotate(
            label(name, 20) if has_room else "", (goodput / 1e6, 1.0), (0, 3), textcoords="offset points",
            xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8, rotation=90 if crowded else 0,
        )  # fmt: skip
        literal([text])
        if slowdown is not None:
            axes.plot(goodput / 1e6, slowdown, "o", color=LIGHT["ink"], markersize=5, zorder=5)
