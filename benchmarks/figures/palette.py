"""The colours of pages and figures, on light and on dark paper: a figure is drawn in the light ones."""

from __future__ import annotations

import re

# Role: on light paper, on dark paper. Every light colour stands for one role only, so that a drawing can be dyed later.
# Series, terms and ways are Okabe and Ito's hues: told apart with every kind of colour vision.
COLOURS = {
    "ink": ("#1a1c1e", "#e6e8eb"),
    "muted": ("#5c6370", "#9aa3af"),
    "grid": ("#d9dce1", "#3a404a"),
    "paper": ("#ffffff", "#1e2126"),
    "band": ("#e8ebef", "#2d333d"),
    "series-1": ("#0072b2", "#5ab4e8"),
    "series-2": ("#d55e00", "#f28a45"),
    "series-3": ("#3b3d40", "#d5d8dc"),
    "series-4": ("#8d9096", "#8a8f98"),
    "series-5": ("#008f68", "#2fc39b"),
    "term-device": ("#56b4e9", "#4aa3d6"),
    "term-transmission": ("#f0e442", "#cdbf2e"),
    "term-edge": ("#cc79a7", "#c26d9c"),
    "way-device": ("#b5ddf6", "#1c4a68"),
    "way-split": ("#9fdcc6", "#12604a"),
    "way-edge": ("#efcbdd", "#673753"),
}

# Around and across bars: dark on all paper, because bars are bright on all paper.
OUTLINE = "#333333"
LIGHT = {role: light for role, (light, _) in COLOURS.items()}
_ROLES = {light: role for role, light in LIGHT.items()}


def dyed(svg: str) -> str:
    """Return `svg` with every colour of the palette as a variable of its page, the light colour where it has none.

    Only tags are dyed: a text may show a colour's name.
    """
    return re.sub(r"<[^<>]*>", lambda tag: re.sub(r"#[0-9a-f]{6}\b", _variable, tag.group()), svg)


def _variable(found: re.Match[str]) -> str:
    colour = found.group()
    return f"var(--{_ROLES[colour]}, {colour})" if colour in _ROLES else colour


def variables(dark: bool) -> str:
    """Return the palette as declarations of CSS variables."""
    return " ".join(f"--{role}: {pair[dark]};" for role, pair in COLOURS.items())
