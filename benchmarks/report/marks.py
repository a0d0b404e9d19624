"""Marks: which of the measured parts are not to be trusted as they stand, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.summaries import summarise_item
from benchmarks.latency.table import Latency
from benchmarks.selection.project_selection import ProjectSelection

_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Mark:
    """One doubt about one row of the latency table; `text` begins with its kind: `drift: the last third ...`."""

    row: Latency
    text: str

    @property
    def kind(self) -> str:
        """Return the kind of doubt in a word or two."""
        return self.text.split(":")[0]


def marks(result: ProjectSelection, runs: Mapping[str, LatencyRun | str]) -> list[Mark]:
    """Return all doubts about the rows that the selection rests on, in the rows' order.

    Those that a row carries itself, or else those of its samples; `runs`: by name, or what is wrong with their files.
    """
    items = {name: _items(run) for name, run in runs.items() if isinstance(run, LatencyRun)}
    found = []
    for row in result.rows:
        own = getattr(row, "flags", None)
        if own is not None:
            found += [Mark(row, str(getattr(flag, "text", flag))) for flag in own]
            continue
        run, item = runs.get(row.run), items.get(row.run, {}).get((row.variant, row.layer, row.part, row.codec))
        if isinstance(run, LatencyRun) and item is not None:
            summary = summarise_item(run, item)
            found += [] if summary is None else [Mark(row, flag.text) for flag in summary.flags]
    return found


def _items(run: LatencyRun) -> dict[_Key, RunItem]:
    """Return the items of a run by variant, layer, part and codec: those of one image in float32, as the rows are."""
    return {
        (item.variant, item.layer, item.part, item.codec or ""): item
        for item in run.items
        if item.precision == "fp32" and item.batch == 1
    }


def mark_sentences(result: ProjectSelection, found: list[Mark]) -> list[str]:
    """Return in a sentence how many parts are marked, and with what; nothing where none is."""
    if not found:
        return []
    parts = len({id(mark.row) for mark in found})
    kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(mark.kind for mark in found).most_common())
    return [f"Of {len(result.rows)} measured parts {parts} are marked: {kinds}. Provenance has each with its reason."]
