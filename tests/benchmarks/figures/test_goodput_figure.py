"""Latency against goodput: the plan is the least at every goodput, and switches where the selector says."""

from __future__ import annotations

import pytest
from example_selection import example_selection
from round_trips import FIVE_TRIPS, TWO_TRIPS, with_links

from benchmarks.figures.goodput_figure import goodput_figure, sweep
from benchmarks.figures.svg import NARROW, WIDE
from benchmarks.selection.baselines import baselines
from benchmarks.selection.selector import describe, latency_ms


def test_the_plan_is_the_fastest_within_the_bound_at_every_goodput() -> None:
    result = example_selection()
    found = sweep(result)
    allowed = [candidate for candidate in result.selection.candidates if not candidate.reason]
    for goodput, plan_ms in zip(found.goodputs_bps, found.plan_ms, strict=True):
        assert plan_ms == pytest.approx(min(latency_ms(one, goodput) for one in allowed))


def test_links_and_switch_points_are_among_the_goodputs() -> None:
    result = example_selection()
    found = sweep(result)
    marks = dict(zip(found.goodputs_bps, found.marks, strict=True))
    for choice in result.selection.links:
        assert marks[choice.goodput_bps] == choice.link
    switches = [item.from_bps for item in result.selection.intervals[1:]]
    assert [goodput for goodput, mark in marks.items() if mark == "switch"] == [
        switch for switch in switches if found.goodputs_bps[0] < switch < found.goodputs_bps[-1]
    ]
    for goodput, mark, number in zip(found.goodputs_bps, found.marks, found.plan, strict=True):
        if mark == "switch":  # both neighbours take the same
            before = next(item for item in result.selection.intervals if item.upto_bps == goodput)
            there = latency_ms(result.selection.candidates[before.candidate], goodput)
            assert there == pytest.approx(latency_ms(result.selection.candidates[number], goodput))


def test_every_baseline_is_in_the_table_and_in_its_familys_panel() -> None:
    result = example_selection()
    figure = goodput_figure(result)
    names = [item.name for item in baselines(result.selection, 1e6)]
    assert [column for column in figure.data.columns if ", ms" in column] == [f"{name}, ms" for name in names]
    column = figure.data.columns.index("device only, pruned, ms")
    assert len({row[column] for row in figure.data.rows}) == 1  # the same at every goodput
    panels = [axes for axes in figure.draw(WIDE).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["original", "pruned"]
    for axes in panels:
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(lines) == 1 + 4  # the plan and four baselines


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_one_network_on_one_link_can_be_drawn(layout) -> None:
    result = example_selection(variants=("original",), settings={"goodput_bps": {"lab": 1e9}})
    panels = goodput_figure(result).draw(layout).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["original"]
    assert panels[0].get_xlabel() == "goodput, Mbit/s"


@pytest.mark.parametrize("trip_ms", [2.0, 60.0])
def test_the_plan_is_the_fastest_at_each_round_trip(trip_ms: float) -> None:
    result = with_links(example_selection(), TWO_TRIPS)
    found = sweep(result, trip_ms)
    allowed = [candidate for candidate in result.selection.candidates if not candidate.reason]
    for goodput, plan_ms in zip(found.goodputs_bps, found.plan_ms, strict=True):
        assert plan_ms == pytest.approx(min(latency_ms(one, goodput, trip_ms) for one in allowed))
    names = {choice.link for choice in result.selection.links if choice.round_trip_ms == trip_ms}
    assert {mark for mark in found.marks if mark not in ("", "switch")} == names


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_link_is_drawn_and_written_at_its_own_round_trip(layout) -> None:
    result = with_links(example_selection(), TWO_TRIPS)
    figure = goodput_figure(result)
    panels = [axes for axes in figure.draw(layout).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{family}\nround trip {trip} ms" for trip in (2, 60) for family in ("original", "pruned")
    ]
    for axes in panels:
        upright = {line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2}
        assert upright == ({1.1, 18.88} if "trip 2 ms" in axes.get_title(loc="left") else {5.85})
    rows = [dict(zip(figure.data.columns, row, strict=True)) for row in figure.data.rows]
    for choice in result.selection.links:
        (row,) = [row for row in rows if choice.link in row["at"]]
        assert (float(row["round_trip_ms"]), float(row["goodput_bps"])) == (choice.round_trip_ms, choice.goodput_bps)
        assert float(row["plan_ms"]) == pytest.approx(choice.latency_ms, abs=1e-4)
        assert row["plan"] == describe(result.selection.candidates[choice.candidate])
    assert figure.sentences[0].startswith("The links' round trips differ: each panel holds for one of them")


def test_at_most_four_round_trips_are_drawn() -> None:
    figure = goodput_figure(with_links(example_selection(), FIVE_TRIPS))
    assert {row[0] for row in figure.data.rows} == {"10", "20", "30", "40"}
    assert "link 5 (50 ms)" in figure.sentences[1]
