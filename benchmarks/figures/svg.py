"""From a drawing to files that are the same each time, and the texts in them: nothing here knows what is drawn."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.figures.palette import LIGHT, OUTLINE, dyed
from jetson.errors import UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

LONGEST_LABEL = 34
_PNG_DOTS_PER_INCH = 200
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "hatch.color": OUTLINE,
    "axes.facecolor": LIGHT["paper"],
    "axes.grid": False,
    "grid.color": LIGHT["grid"],
    "legend.facecolor": LIGHT["paper"],
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), LIGHT["ink"]),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), LIGHT["muted"]),
}


@dataclass(frozen=True)
class Layout:
    """How wide a figure is drawn, in inches, and whether it has to do with one column."""

    width_inches: float
    is_narrow: bool


WIDE = Layout(8.33, is_narrow=False)  # 600 points: the page's column
NARROW = Layout(3.9, is_narrow=True)  # a telephone's width, where letters of the wide one would be half as high


def render(draw: Callable[[], Figure], name: str) -> bytes:
    """Return what `draw` draws as SVG, the same bytes each time, whatever a user's style.

    Colours of the palette become variables of the page around it. `name` goes into the identifiers, so that several fit
    into one page. Raises CoopexportError without matplotlib.
    """
    # The SVG writer takes the salt from nowhere else.
    with _own_style({"svg.hashsalt": name}):
        svg = _svg(draw())
    return _self_contained(svg)


def render_with_png(draw: Callable[[], Figure], name: str) -> tuple[bytes, bytes]:
    """Return what `draw` draws as SVG, see `render`, and as PNG on white, the same bytes each time."""
    with _own_style({"svg.hashsalt": name}):
        figure = draw()
        svg = _svg(figure)
        figure.set_layout_engine("none")  # it is laid out: half of the work
        png = _saved(figure, format="png", metadata={"Software": None}, dpi=_PNG_DOTS_PER_INCH)
    return _self_contained(svg), png


def _svg(figure: Figure) -> bytes:
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    return _saved(figure, format="svg", metadata=nothing, dpi=96)


@contextmanager
def _own_style(more: dict[str, Any]) -> Iterator[None]:
    """Draw with our settings alone, and put the caller's back."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise UnsupportedError(
            f"figures need matplotlib ({error})", fix="install it with: pip install 'coopexport[report]'"
        ) from None
    with style.context(["default", {**_STYLE, **more}]):
        yield


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor=LIGHT["paper"], **options)
    return buffer.getvalue()


def _self_contained(svg: bytes) -> bytes:
    """Drop the document type, which refers to w3.org, and the names of groups, which would clash in one page."""
    text = svg.decode("utf-8")
    # Text is escaped, so that "<g" begins a tag wherever it stands; nothing refers to a group.
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    return dyed(text).encode("utf-8")


def printable(text: str) -> str:
    """Return `text` with what XML cannot hold (control characters, half surrogates) replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return `text` in at most `longest` characters: the middle left out, both ends kept."""
    text = printable(text)
    end = longest // 2
    return text if len(text) <= longest else f"{text[: longest - end - 1]}…{text[-end:]}"


def literal(texts: Iterable[Text]) -> None:
    """Make texts show what they hold: a name with two dollar signs is not a formula."""
    for text in texts:
        text.set_parse_math(False)


def title_panel(axes: Axes, text: str) -> None:
    """Write the title of one of several panels."""
    literal([axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold")])


def with_room(places: Iterable[float], room: float) -> list[bool]:
    """Tell of each place, in ascending order, whether it is at least `room` beyond the last that had room."""
    last, found = -math.inf, []
    for place in places:
        found.append(place - last >= room)
        last = place if found[-1] else last
    return found


def short_bytes(value: float) -> str:
    """Return a number of bytes in at most five characters, `k` for a thousand."""
    for limit, unit, name in ((1e6, 1e6, "M"), (1e3, 1e3, "k")):
        if value >= limit:
            return f"{value / unit:.{1 if value < 100 * unit else 0}f}".removesuffix(".0") + name
    return f"{value:.0f}"


def ms(value: float) -> str:
    """Return milliseconds with three significant digits where it has that many."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"
