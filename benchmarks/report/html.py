"""The report's HTML: one page without scripts or requests. Every text that comes in is escaped here, and only here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from benchmarks.report.svg import printable

# A page that is opened from the disk: nothing may be fetched, nothing may run, whatever a name in it says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1e; --muted: #5c6370; --page: #fbfbfa; --card: #ffffff;
  --line: #d9dce1; --mark: #e3eefa; --warn: #fff4d6; --warn-line: #d9a400; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --muted: #9aa3af; --page: #16181c; --card: #1e2126; --line: #363b44; --mark: #1d3450;
    --warn: #35290b; --warn-line: #a67c00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: var(--page);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
.lead { font-size: 1.08rem; }
.assumptions { background: var(--warn); border-left: .3rem solid var(--warn-line); padding: .75rem 1rem;
  margin: 1.5rem 0; }
ul { margin: .25rem 0; padding-left: 1.2rem; }
li { margin: .35rem 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .86rem; overflow-wrap: normal; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { color: var(--muted); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
table:not(.compact) td:first-child:not(.number) { min-width: 11rem; }
.compact td:not(:last-child) { white-space: nowrap; }
tr.chosen td { background: var(--mark); font-weight: 600; }
tr.out td { color: var(--muted); }
figure { margin: 1.5rem 0; }
figure .card { background: #ffffff; border: 1px solid var(--line); border-radius: .4rem; padding: .75rem;
  overflow-x: auto; }
figure svg { display: block; margin: 0 auto; width: 100%; min-width: 40rem; max-width: 52rem; height: auto; }
figcaption, .note { color: var(--muted); font-size: .88rem; margin: .5rem 0; }
summary { cursor: pointer; margin: .75rem 0; }
"""


def page(title: str, parts: Iterable[str]) -> bytes:
    """Return the whole page; `title` is text, `parts` are HTML made by the functions below."""
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        "</head>\n<body>\n"
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f"{head}{body}\n</body>\n</html>\n".encode()


def escape(text: str) -> str:
    """Return `text` safe in HTML, in attributes too; control characters are replaced."""
    return html.escape(printable(text))


def heading(text: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, css_class: str = "") -> str:
    """Return a paragraph; `css_class` is one of the page's style."""
    return f'<p class="{css_class}">{escape(text)}</p>' if css_class else f"<p>{escape(text)}</p>"


def warning(items: Sequence[str]) -> str:
    """Return a box that stands out, with a list in it."""
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<section class="assumptions"><ul>{entries}</ul></section>'


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str] = (),
    classes: Sequence[str] = (),
    compact: bool = False,
) -> str:
    """Return a table that scrolls sideways on a narrow screen.

    `numbers`: the columns that are aligned to the right. `classes`: for each row `chosen`, `out` or nothing.
    `compact`: one line for each row, but for its last cell.
    """
    style = [' class="number"' if column in numbers else "" for column in columns]
    header = "".join(f"<th{of}>{escape(column)}</th>" for of, column in zip(style, columns, strict=True))
    lines = []
    for row, css_class in zip(rows, list(classes) or [""] * len(rows), strict=True):
        cells = "".join(f"<td{of}>{escape(cell)}</td>" for of, cell in zip(style, row, strict=True))
        lines.append(f'<tr class="{css_class}">{cells}</tr>' if css_class else f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    kind = ' class="compact"' if compact else ""
    return f'<div class="wide"><table{kind}>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def figure(svg: bytes, description: str, caption: str) -> str:
    """Return an SVG inline on a white card; `svg` is one of ours, its texts are escaped already."""
    drawing = svg.decode("utf-8")
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    return (
        f'<figure><div class="card" tabindex="0">\n{drawing}\n</div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def folded(label: str, content: str) -> str:
    """Return HTML `content` folded away under `label`; opens without a script."""
    return f"<details><summary>{escape(label)}</summary>\n{content}\n</details>"
