"""Where each gain comes from: from one stage of pruning to the next, by computation, transmission and a moved cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.figures.candidate_times import ms_on, terms_on
from benchmarks.selection.selector import Candidate, LinkChoice, Selection
from benchmarks.selection.step_gains import STEP1, STEP2
from benchmarks.selection.terms import Terms, is_split
from exporter.variants.plans import ORIGINAL, PRUNED

BOTTLENECKS = "bottlenecks"
Order = Literal["cut kept, then moved", "cut moved, then kept", "cut kept"]
# What is added at each stage, after the original alone, and the families that come with it.
_STAGES = (("splitting", ORIGINAL), ("pruning", PRUNED), ("step 1", STEP1), ("step 2", STEP2),
           ("bottlenecks", BOTTLENECKS))  # fmt: skip


@dataclass(frozen=True)
class GainSources:
    """What one stage saves on one link over the stage before it, in milliseconds; negative: what it pays.

    `stage`: what may be chosen from here on as well. `before`, `after`: numbers of the best candidates within the bound
    without and with it. The three parts sum up to `saved_ms`: computation on both machines and transmission at the same
    cut, and what moving the cut adds. `order`: which of the two was done first; None where the new network was measured
    at neither cut, or the old one at the new cut, so that the parts are not known.
    """

    link: LinkChoice
    stage: str
    before: int
    after: int
    before_ms: float
    after_ms: float
    order: Order | None
    computation_ms: float | None
    transmission_ms: float | None
    moved_cut_ms: float | None

    @property
    def saved_ms(self) -> float:
        """Return how much less the best takes with the stage."""
        return self.before_ms - self.after_ms


def gain_sources(selection: Selection) -> list[GainSources]:
    """Return for each link what each stage saves: splitting, pruning, step 1, step 2, bottlenecks, where they exist.

    The first stage is the original alone without a cut, the better of device and edge; with splitting it may be cut.
    Each further one may choose from all families so far. A stage whose families have no candidate is left out.
    """
    present = {candidate.compared_as for candidate in selection.candidates}
    stages = [(name, family) for name, family in _STAGES if family in present]
    found = []
    for link in selection.links:
        allowed: list[str] = [ORIGINAL]
        before = _best(selection, [ORIGINAL], link, split=False)
        for name, family in stages:
            allowed.append(family)
            after = _best(selection, allowed, link, split=True)
            if after is not None:
                if before is not None:
                    found.append(_sources(selection, link, name, before, after))
                before = after
    return found


def _best(selection: Selection, families: Sequence[str], link: LinkChoice, split: bool) -> int | None:
    """Return the fastest within the bound of some families, None for none; `split`: cuts are allowed."""
    indices = [
        index
        for index, candidate in enumerate(selection.candidates)
        if candidate.compared_as in families and not candidate.reason and (split or not is_split(candidate))
    ]
    return min(
        indices, key=lambda i: (ms_on(selection.candidates[i], link), selection.candidates[i].loss_points),
        default=None,
    )  # fmt: skip


def _sources(selection: Selection, link: LinkChoice, stage: str, before: int, after: int) -> GainSources:
    old, new = selection.candidates[before], selection.candidates[after]
    start, end = terms_on(old, link), terms_on(new, link)
    order, first, second = _between(selection.candidates, old, new, link)
    # With the cut kept first, the network changes from start to between; with it moved first, from between to end.
    computation = transmission = moved = None
    if first is not None and second is not None:
        computation = first.device_ms + first.edge_ms - second.device_ms - second.edge_ms
        transmission = first.transmission_ms - second.transmission_ms
        moved = start.total_ms - end.total_ms - computation - transmission
    return GainSources(
        link, stage, before, after, start.total_ms, end.total_ms, order, computation, transmission, moved
    )


def _between(
    candidates: Sequence[Candidate], old: Candidate, new: Candidate, link: LinkChoice
) -> tuple[Order | None, Terms | None, Terms | None]:
    """Return in which order network and cut are changed, and the terms before and after the network's change."""
    start, end = terms_on(old, link), terms_on(new, link)
    if old.layer == new.layer:
        return "cut kept", start, end
    new_at_old_cut = _fastest_at(candidates, new.variant, old.layer, link)
    if new_at_old_cut is not None:
        return "cut kept, then moved", start, new_at_old_cut
    old_at_new_cut = _fastest_at(candidates, old.variant, new.layer, link)
    if old_at_new_cut is not None:
        return "cut moved, then kept", old_at_new_cut, end
    return None, None, None


def _fastest_at(candidates: Sequence[Candidate], variant: str, layer: str, link: LinkChoice) -> Terms | None:
    """Return the terms of a variant at one cut, whatever it loses; None where it was not measured there."""
    known = [
        terms_on(candidate, link)
        for candidate in candidates
        if (candidate.variant, candidate.layer) == (variant, layer)
        and candidate.device_ms is not None
        and candidate.edge_ms is not None
    ]
    return min(known, key=lambda terms: terms.total_ms, default=None)
