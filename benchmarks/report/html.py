"""The report's HTML: one page without requests. Every text that comes in is escaped here, and only here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from benchmarks.figures.report_figure import FOLDER, DrawnFigure
from benchmarks.figures.svg import printable
from benchmarks.report.script import SCRIPT, script_hash
from benchmarks.report.style import STYLE

# A page that is opened from the disk: nothing may be fetched, and only our own script may run, whatever a name says.
_POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src '{script_hash()}'; base-uri 'none'; form-action 'none'"
)
# Longer tables of figures scroll in a box of their own. These, and wider ones, are not printed: they lie beside the
# page as CSV.
_LONGEST_PRINTED, _WIDEST_PRINTED = 120, 8


def page(title: str, parts: Iterable[str]) -> bytes:
    """Return the whole page; `title` is text, `parts` are HTML made by the functions below."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        "</head>\n<body>\n"
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f"{head}{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n".encode()


def escape(text: str) -> str:
    """Return `text` safe in HTML, in attributes too; control characters are replaced."""
    return html.escape(printable(text))


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, css_class: str = "") -> str:
    """Return a paragraph; `css_class` is one of the page's style."""
    return f'<p class="{css_class}">{escape(text)}</p>' if css_class else f"<p>{escape(text)}</p>"


def bullets(items: Sequence[str]) -> str:
    """Return a list."""
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>"


def warning(items: Sequence[str]) -> str:
    """Return a box that stands out, with a list in it."""
    return f'<section class="assumptions">{bullets(items)}</section>'


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str] = (),
    classes: Sequence[str] = (),
    compact: bool = False,
    name: str = "",
) -> str:
    """Return a table that scrolls sideways on a narrow screen.

    `numbers`: the columns that are aligned to the right. `classes`: for each row `chosen`, `out` or nothing.
    `compact`: one line for each row. `name`: that the page's script knows it by.
    """
    style = [' class="number"' if column in numbers else "" for column in columns]
    header = "".join(f"<th{of}>{escape(column)}</th>" for of, column in zip(style, columns, strict=True))
    lines = []
    for row, css_class in zip(rows, list(classes) or [""] * len(rows), strict=True):
        cells = "".join(f"<td{of}>{escape(cell)}</td>" for of, cell in zip(style, row, strict=True))
        lines.append(f'<tr class="{css_class}">{cells}</tr>' if css_class else f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    kind = (f' id="{escape(name)}"' if name else "") + (' class="compact"' if compact else "")
    return f'<div class="wide"><table{kind}>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def figure(drawn: DrawnFigure) -> str:
    """Return a figure with its heading, sentences, caption, and its numbers as a table that can be copied.

    Its drawings are ours, their texts are escaped already.
    """
    shown = drawn.figure
    drawings = "\n".join(_inline(svg, kind, shown.description) for svg, kind in
                         ((drawn.wide, "broad"), (drawn.narrow, "narrow")))  # fmt: skip
    return "\n".join(
        [
            f'<section id="{escape(shown.name)}">',
            heading(shown.title),
            *map(paragraph, shown.sentences),
            f'<figure><div class="card">\n{drawings}\n</div><figcaption>{escape(shown.caption)}</figcaption></figure>',
            _data(drawn),
            "</section>",
        ]
    )


def _inline(svg: bytes, css_class: str, description: str) -> str:
    return svg.decode("utf-8").replace(
        "<svg ", f'<svg class="{css_class}" role="img" aria-label="{escape(description)}" ', 1
    )


def _data(drawn: DrawnFigure) -> str:
    """Return the numbers of a figure, folded away, with a button that copies them."""
    data, name = drawn.figure.data, f"{drawn.figure.name}-data"
    path = f"{FOLDER}/{drawn.figure.name}.csv"
    long, wide = len(data.rows) > _LONGEST_PRINTED, len(data.columns) > _WIDEST_PRINTED
    copy = (
        f'<p class="copy"><button type="button" data-table="{escape(name)}" hidden>Copy as CSV</button>'
        '<span class="said" role="status"></span></p>'
    )
    note = (
        f'<p class="printed">{len(data.rows)} rows, in the file {escape(path)} beside this page.</p>'
        if long or wide
        else ""
    )
    listed = table(data.columns, data.rows, data.numbers, compact=True, name=name)
    classes = " ".join(name for name, is_so in (("data", True), ("long", long), ("unprinted", long or wide)) if is_so)
    content = f'<div class="{classes}">{copy}{note}{listed}</div>'
    return folded(f"The figure's numbers: {len(data.rows)} rows, also in {path}", content)


def folded(label: str, content: str) -> str:
    """Return HTML `content` folded away under `label`; opens without a script."""
    return f"<details><summary>{escape(label)}</summary>\n{content}\n</details>"
