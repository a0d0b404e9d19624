"""From a drawing to a file that is the same each time, and the texts in it: nothing here knows what is drawn."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from jetson.errors import UnsupportedError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

LONGEST_LABEL = 34
_STYLE = {"svg.fonttype": "none", "font.size": 8.5, "axes.axisbelow": True, "hatch.linewidth": 0.6}


def render(draw: Callable[[], Figure], name: str) -> bytes:
    """Return what `draw` draws as SVG, the same bytes each time, whatever a user's style.

    `name` goes into the identifiers, so that several fit into one page. Raises CoopexportError without matplotlib.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise UnsupportedError(
            f"figures need matplotlib ({error})", fix="install it with: pip install 'coopexport[report]'"
        ) from None
    buffer = io.BytesIO()
    # The SVG writer takes these from nowhere else; the context puts the caller's settings back.
    with style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw().savefig(buffer, format="svg", metadata=nothing, dpi=96, facecolor="white")
    return _self_contained(buffer.getvalue())


def _self_contained(svg: bytes) -> bytes:
    """Drop the document type, which refers to w3.org, and the names of groups, which would clash in one page."""
    text = svg.decode("utf-8")
    # Text is escaped, so that "<g" begins a tag wherever it stands; nothing refers to a group.
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])
    return text.encode("utf-8")


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
