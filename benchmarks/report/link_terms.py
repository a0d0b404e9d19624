"""What a candidate takes on a link: the one place where the report asks for a latency on one of the project's links."""

from __future__ import annotations

from benchmarks.selection.selector import Candidate, LinkChoice
from benchmarks.selection.terms import Terms, terms_of


def terms_on(candidate: Candidate, link: LinkChoice) -> Terms:
    """Return the terms on a link; raises ValueError for times that are not known."""
    return terms_of(candidate, link.goodput_bps)


def ms_on(candidate: Candidate, link: LinkChoice) -> float:
    """Return the latency on a link in milliseconds; raises ValueError for times that are not known."""
    return terms_on(candidate, link).total_ms
