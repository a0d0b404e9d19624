"""Planted shifts are all found and told apart by the reference; resamples of one distribution rarely look like one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tables import row, sitting

from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.table import latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.comparison import (
    RATIO_TOLERANCE,
    difference,
    reference_factor,
    shift_between,
    through_reference,
)
from benchmarks.latency.tables.from_run import recorded_run
from benchmarks.latency.tables.newest import all_rows
from benchmarks.latency.tables.records import TableRow, TableRun

PLANTED = 40


def measured(rng: np.random.Generator, minute: int, part_ms: float, machine: float = 1.0) -> tuple[TableRun, TableRow]:
    """Return a sitting of 100 rounds of a part and the reference, skewed to the right as latencies are."""

    def samples(middle_ms: float) -> tuple[float, ...]:
        return tuple((middle_ms * machine * (1 + rng.gamma(2.0, 0.01, 100))).tolist())

    run = LatencyRun(
        run=f"run {minute}", started_at=f"2026-08-01T10:{minute:02}:00+00:00", target="cpu", host={}, backend="ort",
        backend_version="1", threads=1, warm_up=2, rounds=100, interleaved=True,
        reference=RunItem(
            variant="reference", layer="whole", part="whole", source_sha256="reference", samples_ms=samples(0.5)
        ),
        items=(RunItem(variant="pruned", layer="conv4_1", part="head", samples_ms=samples(part_ms)),),
    )  # fmt: skip
    record = recorded_run(run)
    return record.run, record.rows[0]


def test_every_planted_shift_is_found_and_put_down_to_what_moved() -> None:
    rng = np.random.default_rng(3)
    for _ in range(PLANTED):
        size = rng.uniform(1.06, 1.5) ** rng.choice([-1, 1])
        before = measured(rng, 0, 2.0)
        part = shift_between(before, measured(rng, 1, 2.0 * size))
        machine = shift_between(before, measured(rng, 1, 2.0, machine=size))
        assert part is not None
        assert machine is not None
        assert (part.cause, machine.cause) == ("part", "machine")
        assert part.factor == pytest.approx(size, rel=0.02)
        assert machine.ratio_factor == pytest.approx(1, abs=RATIO_TOLERANCE)


def test_resamples_of_one_distribution_are_rarely_called_shifted() -> None:
    rng = np.random.default_rng(4)
    found = [shift_between(measured(rng, 0, 2.0), measured(rng, 1, 2.0)) for _ in range(300)]
    # Two 95 % intervals of independent medians miss each other in about 0.6 % of cases.
    assert sum(shift is not None for shift in found) <= 6
    assert all(shift.cause == "machine" for shift in found if shift is not None)


def test_the_table_marks_the_sitting_that_moved_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    runs = [
        sitting(row("head", 3.0), row("tail", 1.0), minute=1, reference_ms=0.5),
        sitting(row("head", 3.01), row("tail", 1.0), minute=2, reference_ms=0.5),
        sitting(row("head", 4.0), row("tail", 1.3), minute=3, reference_ms=0.65),
    ]
    for order in ((2, 0, 1), (0, 1, 2)):
        path.unlink(missing_ok=True)
        add_runs(path, [runs[index] for index in order])
        shifts = {found.part: found.shift for found in latest(path)}
        assert shifts["head"] is not None
        assert shifts["tail"] is not None
        assert shifts["head"].before == shifts["tail"].before == runs[1].run.run
        assert shifts["head"].text.startswith("SHIFTED: 1.33 times run 20260801T100200Z")
        assert shifts["head"].text.endswith("but 1.02 times beside the reference: the machine changed")
        history = [one.shift is None for one in all_rows(path, lambda run, one: one.part == "head")]
        assert history == [False, True, True]  # the newest first


@pytest.mark.parametrize(
    "changed",
    [{"source_sha256": "another graph"}, {"p50_low_ms": None, "p50_high_ms": None}, {"part": "tail"}],
)
def test_only_the_same_part_on_the_same_graph_with_an_interval_is_compared(tmp_path: Path, changed: dict) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row(**changed), minute=1), sitting(row(p50_ms=9.0), minute=2)])
    assert [found.shift for found in latest(path) if found.p50_ms == 9.0] == [None]


def test_sittings_taken_otherwise_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row(), minute=1, threads=2), sitting(row(p50_ms=9.0), minute=2)])
    assert [found.shift for found in latest(path)] == [None]


def test_without_a_common_reference_nobody_is_blamed() -> None:
    before, after = sitting(row()), sitting(row(p50_ms=4.0), minute=1, reference_ms=0.5)
    shift = shift_between((before.run, before.rows[0]), (after.run, after.rows[0]))
    assert shift is not None
    assert (shift.cause, shift.ratio_factor) == ("unknown", None)
    assert "no reference in common" in shift.text
    assert reference_factor(before.run, after.run) is None


@given(*[st.floats(0.01, 100)] * 4)
def test_through_the_reference_a_faster_machine_changes_nothing(
    part_ms: float, reference_ms: float, machine: float, change: float
) -> None:
    before = sitting(row(p50_ms=part_ms), reference_ms=reference_ms)
    after = sitting(row(p50_ms=part_ms * machine * change), minute=1, reference_ms=reference_ms * machine)
    found = difference((before.run, before.rows[0]), (after.run, after.rows[0]))
    assert found is not None
    factor, by_reference, is_beyond = found
    assert by_reference
    assert factor == pytest.approx(change)
    if not 0.9 < change < 1.1:  # intervals of 2 and 1 % on each side
        assert is_beyond
    if 0.98 < change < 1.02:
        assert not is_beyond


def test_the_interval_of_a_ratio_covers_the_ratio_as_often_as_that_of_a_median() -> None:
    """Against simulation: the true ratio lies in the interval in about 95 of 100 sittings."""
    rng = np.random.default_rng(5)
    middle = 1 + float(np.median(rng.gamma(2.0, 0.01, 200_000)))
    inside = 0
    for _ in range(200):
        found, _ = through_reference(measured(rng, 0, 2.0), measured(rng, 1, 2.0))
        assert found is not None
        inside += found.low <= 2.0 * middle / (0.5 * middle) <= found.high
    assert inside >= 180
