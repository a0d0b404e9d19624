"""A figure of the report: what is drawn, what is said of it, and its numbers as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures.svg import NARROW, WIDE, Layout, printable, render, render_with_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"


@dataclass(frozen=True)
class FigureData:
    """The numbers of a figure as texts, each row as long as `columns`; `numbers`: columns that are aligned right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()

    def csv(self) -> bytes:
        """Return the table as CSV (RFC 4180, lines end in a newline alone), its columns in the first line."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([printable(cell) for cell in row] for row in (self.columns, *self.rows))
        return buffer.getvalue().encode("utf-8")


@dataclass(frozen=True)
class ReportFigure:
    """One figure. `name`: of its files and its place in the page; `description`: for those who do not see it.

    `sentences` stand above it, `caption` below.
    """

    name: str
    title: str
    description: str
    caption: str
    draw: Callable[[Layout], Figure]
    data: FigureData
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawnFigure:
    """A figure with its drawings: SVG for a wide and for a narrow page, and PNG."""

    figure: ReportFigure
    wide: bytes
    narrow: bytes
    png: bytes

    def files(self) -> dict[str, bytes]:
        """Return the figure's files by their path beside the report."""
        stem = f"{FOLDER}/{self.figure.name}"
        return {f"{stem}.svg": self.wide, f"{stem}.png": self.png, f"{stem}.csv": self.figure.data.csv()}


def drawn(figure: ReportFigure) -> DrawnFigure:
    """Draw a figure; raises CoopexportError without matplotlib."""
    wide, png = render_with_png(lambda: figure.draw(WIDE), figure.name)
    return DrawnFigure(figure, wide, render(lambda: figure.draw(NARROW), f"{figure.name}_narrow"), png)
