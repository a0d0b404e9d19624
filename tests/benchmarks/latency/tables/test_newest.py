"""What is newest and current equals a plain pass over all rows, however they came into the table."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import row, sitting

from benchmarks.latency.table import current_latencies, latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.newest import all_rows, newest_rows
from benchmarks.latency.tables.records import RecordedRun
from benchmarks.latency.tables.sources import read_records

PARTS = ("head", "tail")
_runs = st.fixed_dictionaries(
    {
        "minute": st.integers(0, 5),
        "target": st.sampled_from(["cpu", "nano"]),
        "power_mode": st.sampled_from([None, "15W", "MAXN"]),
        "origin": st.sampled_from(["measured", "measured", "imported"]),
        "rows": st.dictionaries(st.sampled_from(PARTS), st.one_of(st.none(), st.floats(0.5, 2)), max_size=2),
    }
)


def made(drawn: list[dict[str, Any]]) -> list[RecordedRun]:
    """Return the runs; two of one minute differ by their ids alone."""
    return [
        sitting(
            *(row(part, ms) for part, ms in fields["rows"].items()),
            **{**{name: value for name, value in fields.items() if name != "rows"}, "run": f"run {number * 7 % 10}"},
        )
        for number, fields in enumerate(drawn)
    ]


def plain_pass(records: list[RecordedRun]) -> dict[tuple[str, str], tuple[str, str, float | None]]:
    """Return state, run and median of each part of each target, by looking at every row."""
    found: dict[tuple[str, str], tuple[str, str, float | None]] = {}
    for target in {record.run.target for record in records if record.rows}:
        of_target = [record for record in records if record.run.target == target and record.rows]
        measured = [record for record in of_target if record.run.origin == "measured"] or of_target
        now = max(measured, key=lambda record: (record.run.started_at, record.run.run))
        for part in PARTS:
            tried = [(record, one) for record in of_target for one in record.rows if one.part == part]
            alike = [pair for pair in tried if pair[0].run.power_mode == now.run.power_mode]
            if tried:
                record, one = max(alike or tried, key=lambda pair: (pair[0].run.started_at, pair[0].run.run))
                state = ("current" if one.status == "ok" else "failed") if alike else "expired"
                found[target, part] = (state, record.run.run, one.p50_ms)
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(_runs, min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_newest_rows_are_those_of_a_plain_pass(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, Any]], order: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("tables", numbered=True)
    records = made(drawn)
    shuffled = order.sample(records, len(records))
    add_runs(folder / "all.sqlite", shuffled)
    half = len(shuffled) // 2
    add_runs(folder / "one.sqlite", shuffled[:half])
    add_runs(folder / "other.sqlite", shuffled[half:])
    add_runs(folder / "one.sqlite", read_records(folder / "other.sqlite"))
    expected = plain_pass(records)
    for name in ("all.sqlite", "one.sqlite"):
        rows = newest_rows(folder / name)
        assert len(rows) == len(expected)
        found = {(one.run.target, one.row.part): (one.state, one.run.run, one.row.p50_ms) for one in rows}
        assert found == expected


@settings(max_examples=12, deadline=None)
@given(st.lists(_runs, min_size=1, max_size=9))
def test_the_history_has_every_row_once_and_the_newest_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("tables", numbered=True) / "latency.sqlite"
    records = made(drawn)
    add_runs(path, records)
    rows = all_rows(path, lambda run, one: True)
    found = [(one.run.run, one.row.part, one.row.p50_ms) for one in rows]
    assert sorted(found, key=str) == sorted(
        ((record.run.run, one.part, one.p50_ms) for record in records for one in record.rows), key=str
    )
    for newest in newest_rows(path):
        assert newest in rows
    for _, part in itertools.groupby(rows, key=lambda one: (one.run.target, one.row.part)):
        starts = [(one.run.started_at, one.run.run) for one in part]
        assert starts == sorted(starts, reverse=True)


def test_a_changed_power_mode_expires_the_old_rows_by_name(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row("head"), row("tail"), minute=1, power_mode="15W")])
    assert {found.part for found in latest(path)} == {"head", "tail"}
    add_runs(path, [sitting(row("head", 2.0), minute=2, power_mode="MAXN")])
    assert [(found.part, found.p50_ms) for found in latest(path)] == [("head", 2.0)]
    assert current_latencies(path).failures == {}
    assert current_latencies(path).expired == {("cpu", "pruned", "conv4_1", "tail", ""): "power mode was 15W, is MAXN"}
    add_runs(path, [sitting(row("head", 4.0), minute=3, power_mode="15W")])  # turned back: they count again
    assert {found.part: found.p50_ms for found in latest(path)} == {"head": 4.0, "tail": 3.0}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"processor": "Another"}, "processor was Some CPU, is Another"),
        ({"threads": 4}, "threads was 1, is 4"),
        ({"backend_version": "1.21.0"}, "backend version was 1.20.0, is 1.21.0"),
        ({"driver": "570.86"}, "driver was not recorded, is 570.86"),
        ({"l4t": "36.4", "threads": 2}, "threads was 1, is 2; L4T was not recorded, is 36.4"),
    ],
)
def test_whatever_else_changed_is_named(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row("tail"), minute=1), sitting(row("head"), minute=2, **fields)])
    assert list(current_latencies(path).expired.values()) == [reason]
    assert [found.part for found in latest(path)] == ["head"]


def test_rows_of_another_graph_than_the_present_one_have_expired(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row("head"), row("tail"), row("whole", layer="whole"))])
    key = ("pruned", "conv4_1")
    graphs = {(*key, "head", "", "fp32"): "sha of head", (*key, "tail", "", "fp32"): "a new one"}
    found = current_latencies(path, graphs=graphs)
    assert [one.part for one in found.rows] == ["head", "whole"]
    assert found.expired == {("cpu", "pruned", "conv4_1", "tail", ""): "measured on another graph"}


def test_brought_numbers_do_not_expire_measured_ones_and_stand_where_there_are_no_others(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    brought = sitting(row("tail", 9.0, count=None), minute=9, origin="imported", processor=None)
    add_runs(path, [sitting(row("head"), minute=1), brought])
    assert [found.part for found in latest(path)] == ["head"]
    assert list(current_latencies(path).expired.values()) == ["processor was not recorded, is Some CPU"]
    add_runs(path, [replace(brought, run=replace(brought.run, run="of a board", target="board"))])
    (found,) = [one for one in latest(path) if one.target == "board"]
    assert (found.origin, found.count, found.cv, found.p50_ms) == ("imported", None, None, 9.0)


def test_a_run_that_measured_nothing_makes_nothing_expire(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row("head"), minute=1), sitting(minute=2, threads=8)])
    assert [found.part for found in latest(path)] == ["head"]


def test_rows_carry_what_takes_them_to_the_newest_sitting(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    runs = [
        sitting(row("encode"), minute=0),
        sitting(row("whole", 5.0), minute=1, reference_ms=0.5, reference_sha256="another reference"),
        sitting(row("tail", 3.0), minute=2, reference_ms=0.4),
        sitting(row("head", 2.0), minute=3, reference_ms=0.5),
    ]
    add_runs(path, runs)
    factors = {found.part: found.factor for found in latest(path)}
    assert factors == {"encode": None, "whole": None, "tail": pytest.approx(1.25), "head": 1.0}


def test_ties_of_the_start_go_by_the_id_of_the_run(tmp_path: Path) -> None:
    for number, order in enumerate(itertools.permutations("abc")):
        path = tmp_path / f"{number}.sqlite"
        add_runs(path, [sitting(row("head", float(ord(name))), run=name) for name in order])
        assert [found.run for found in latest(path)] == ["c"]


@pytest.mark.parametrize("modes", list(itertools.permutations(["5W", "15W", "MAXN"])))
def test_of_several_changed_power_modes_the_newest_row_is_the_expired_one(tmp_path: Path, modes: tuple[str]) -> None:
    path = tmp_path / "latency.sqlite"
    turned = [*modes, modes[0]]  # and back again
    sittings = [sitting(row("tail"), minute=minute, power_mode=mode) for minute, mode in enumerate(turned, start=1)]
    add_runs(path, [*sittings, sitting(row("head"), minute=9, power_mode="30W")])
    assert list(current_latencies(path).expired.values()) == [f"power mode was {turned[-1]}, is 30W"]
