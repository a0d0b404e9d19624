"""Marks: which of the measured parts are not to be trusted as they stand, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from benchmarks.latency.table import Latency
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import Candidate, describe
from benchmarks.selection.terms import is_split
from engines.building.build_items import WHOLE
from jetson.wire.image_message import RESIZED, is_resized


@dataclass(frozen=True)
class Mark:
    """One doubt about one row of the latency table; `text` begins with its kind: `drift: the last third ...`."""

    row: Latency
    text: str

    @property
    def kind(self) -> str:
        """Return the kind of doubt in a word or two."""
        return self.text.split(":")[0]


def marks(result: ProjectSelection) -> list[Mark]:
    """Return all doubts about the rows that the selection rests on, in the rows' order: flags, and shifted medians."""
    found = []
    for row in result.rows:
        found += [Mark(row, text) for text in row.flags]
        if row.shift is not None:
            found.append(Mark(row, row.shift.text))
    return found


def mark_sentences(result: ProjectSelection, found: list[Mark]) -> list[str]:
    """Return in a sentence how many parts are marked, and with what; nothing where none is."""
    if not found:
        return []
    parts = len({id(mark.row) for mark in found})
    kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(mark.kind for mark in found).most_common())
    marked = f"Of {len(result.rows)} measured parts {parts} are marked: {kinds}. Provenance has each with its reason."
    return [marked, *_of_the_chosen(result, found)]


def _of_the_chosen(result: ProjectSelection, found: list[Mark]) -> list[str]:
    """Return for each candidate that is chosen somewhere which of its parts are marked, and with what."""
    said = []
    for number in dict.fromkeys(choice.candidate for choice in result.selection.links):
        candidate = result.selection.candidates[number]
        own = [mark for mark in found if is_part_of(mark.row, candidate)]
        if own:
            named = ", ".join(f"{mark.row.part} ({mark.kind})" for mark in own)
            said.append(f"Marked of {describe(candidate)}, which is chosen: {named}.")
    return said


def is_part_of(row: Latency, candidate: Candidate) -> bool:
    """Tell whether a candidate's times are made of a row's."""
    is_of_images = row.layer == WHOLE and row.part != WHOLE
    if row.variant != candidate.variant or (row.precision != candidate.precision and not is_of_images):
        return False
    if is_split(candidate):
        return row.layer == candidate.layer or (row.layer == WHOLE and row.part == "preprocess" and not row.codec)
    coding = candidate.coding.split(" ")[0]
    if row.layer == WHOLE and row.part == "preprocess":
        return (row.codec == RESIZED) == is_resized(coding)
    return row.layer == WHOLE and (not row.codec or row.codec == coding)
