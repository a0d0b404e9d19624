"""The study of the selector's speed measures what it says: real plans, and decisions of the plan's file."""

from __future__ import annotations

import re

import pytest

from benchmarks.planning.columns import lines_of
from benchmarks.planning.envelope import lower_envelope
from benchmarks.studies.selector import (
    PLANS,
    as_candidates,
    drawn_columns,
    make_page,
    microseconds_of_decision,
    time_of_plan,
    worst_columns,
)


def test_every_candidate_of_the_worst_case_is_best_somewhere() -> None:
    chain = lower_envelope(lines_of(worst_columns(500), 0.0))
    assert len(chain.lines) > 450  # but for those that rounding leaves no interval
    assert len(lower_envelope(lines_of(drawn_columns(500), 0.0)).lines) < 50


def test_candidates_hold_the_columns() -> None:
    columns = drawn_columns(3)
    for row, candidate in enumerate(as_candidates(columns)):
        assert candidate.device_ms == columns.device_ms[row]
        assert candidate.crossing_bytes == columns.crossing_bytes[row]
        assert candidate.loss_points == columns.loss_points[row]


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_takes_time_and_memory(name: str) -> None:
    seconds, processor_seconds, mebibytes = time_of_plan(name, 300)
    assert min(seconds, processor_seconds) >= 0
    assert mebibytes > 10


def test_a_decision_is_made_among_several_intervals() -> None:
    microseconds, intervals = microseconds_of_decision(2000)
    assert intervals > 3
    assert microseconds > 0


@pytest.mark.full
def test_a_million_candidates_are_planned_within_two_seconds_and_a_gigabyte() -> None:
    """In seconds of the processor, so that a busy machine tells the same."""
    page = make_page(1_000_000, 200_000)
    row = next(line for line in page.splitlines() if line.startswith("| least latency"))
    _, processor_seconds, mebibytes = (float(cell) for cell in re.findall(r"[\d.]+", row))
    assert processor_seconds < 2.0
    assert mebibytes < 954
    decision = re.search(r"plain\s+Python:\s+([\d.]+)", page)
    assert decision is not None
    assert float(decision[1]) < 2.0
