"""The Markdown of the studies' pages: tables, filled paragraphs, and what a page was measured with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTHING = "–"
_WIDTH = 120


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, words: Sequence[str] = ()) -> str:
    """Return a table; the first `left` columns, and those whose names are in `words`, are aligned to the left."""
    rule = ["---" if index < left or name in words else "---:" for index, name in enumerate(header)]
    lines = [header, rule, *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def holds(bound: bool | None) -> str:
    """Return what a column says of a bound: yes, no, or, for None, that it was not judged."""
    return "not judged" if bound is None else "yes" if bound else "**no**"


def filled(text: str, indent: str = "") -> str:
    """Return `text` as a paragraph; `indent`: of its further lines."""
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def provenance(host: Mapping[str, Any], versions: Mapping[str, str], command: str) -> str:
    """Return the paragraph of what a page was measured with, and by which command it is written."""
    tools = ", ".join(f"{name} {version}" for name, version in versions.items())
    return filled(
        f"{tools}; Python {host['python']}, one thread of {host['processor']} ({host['system']}; load average at the "
        f"start {host['load_average']}). Written by `{command}`."
    )
