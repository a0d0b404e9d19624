"""The map of where splitting pays is the selector's own latency at every point, and the figure shows that map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from example_selection import example_selection
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trips import FIVE_TRIPS, TWO_TRIPS, with_links
from ways import DEVICE, EDGE, FEATURE, SPLIT

from benchmarks.figures.svg import NARROW, WIDE, Layout
from benchmarks.figures.ways import WayMap, map_ways, way_of
from benchmarks.figures.ways_figure import project_map, ways_figure
from benchmarks.links.link import Link
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, describe, latency_ms, select

LAYERS = st.sampled_from((INPUT, OUTPUT, "conv1", "pool2"))
TIMES = st.floats(0.01, 50)


def candidate(layer: str, device_ms: float, edge_ms: float, size: float, reason: str) -> Candidate:
    crossing = 0.0 if layer == OUTPUT else size
    return Candidate("original", layer, "x", crossing, device_ms, edge_ms, 0.9, 0.0, reason)


CANDIDATES = st.lists(
    st.builds(candidate, LAYERS, TIMES, TIMES, st.floats(1, 1e5), st.sampled_from(("", "", "", "no"))), max_size=8
)


@given(CANDIDATES, st.floats(0.5, 20), st.floats(0.5, 50), st.floats(1e4, 1e9))
@settings(max_examples=60, deadline=None)
def test_a_point_of_the_map_is_the_least_latency_of_each_way(
    candidates: list[Candidate], assumed: float, slowdown: float, goodput: float
) -> None:
    found = map_ways(candidates, assumed, [slowdown], [goodput])
    best: dict[str, float] = {}
    for one in candidates:
        if not one.reason:
            assert one.device_ms is not None
            here = latency_ms(replace(one, device_ms=one.device_ms / assumed * slowdown), goodput)
            best[way_of(one)] = min(here, best.get(way_of(one), float("inf")))
    for way, times in found.fastest_ms.items():
        assert times[0, 0] == pytest.approx(best.get(way, float("inf")))
        number = int(found.candidates[way][0, 0])
        assert (number >= 0) == (way in best)
        assert number < 0 or (way_of(candidates[number]) == way and not candidates[number].reason)
    if best:
        assert best[found.way_at(0, 0)] == min(best.values())


def test_sums_done_by_hand() -> None:
    # Device times are those of s = 5; 1 Mbit/s is 8 us a byte.
    found = map_ways((DEVICE, EDGE, SPLIT, FEATURE), 5, [5.0, 50.0], [1e6, 1e9])
    assert found.fastest_ms["device"].tolist() == [[10, 10], [100, 100]]
    assert found.fastest_ms["split"][0, 0] == pytest.approx(1 + 200 * 0.008 + 2)
    assert found.way_at(0, 0) == "split"
    assert found.candidate_at(0, 0) == 2
    assert found.gains[0, 0] == pytest.approx(found.unsplit_ms[0, 0] / (3 + 200 * 0.008))


def test_a_round_trip_is_spent_where_anything_crosses() -> None:
    found = map_ways((DEVICE, EDGE, SPLIT), 5, [5.0], [1e6], round_trip_ms=30.0)
    for way, candidate in (("device", DEVICE), ("edge", EDGE), ("split", SPLIT)):
        assert found.fastest_ms[way][0, 0] == pytest.approx(latency_ms(candidate, 1e6, 30.0))
    assert found.way_at(0, 0) == "device"


def test_without_a_split_nothing_is_gained_and_without_the_rest_there_is_no_bound() -> None:
    none = map_ways((DEVICE, EDGE), 5, [5.0], [1e6])
    assert none.gains.tolist() == [[0.0]]
    alone = map_ways((SPLIT,), 5, [5.0], [1e6])
    assert alone.gains.tolist() == [[float("inf")]]
    assert alone.way_at(0, 0) == "split"


def test_the_table_holds_the_selectors_choice_at_every_point() -> None:
    result = example_selection()
    figure = ways_figure(result)
    found = project_map(result)
    rows = [dict(zip(figure.data.columns, row, strict=True)) for row in figure.data.rows]
    assert len(rows) == found.fastest_ms["split"].size
    for row in rows[::97]:
        scaled = [
            replace(one, device_ms=one.device_ms and one.device_ms / 5 * float(row["device_slowdown"]))
            for one in result.selection.candidates
        ]
        choice = select(scaled, {"here": float(row["goodput_bps"])}, 1.0).links[0]
        assert float(row[f"{row['fastest']}_ms"]) == pytest.approx(choice.latency_ms, rel=2e-3)
        assert row["candidate"] == describe(result.selection.candidates[choice.candidate])
        unsplit = min(float(row["device_ms"]), float(row["edge_ms"]))
        assert float(row["gain_of_split"]) == pytest.approx(unsplit / float(row["split_ms"]), rel=2e-3)


def test_regions_links_and_slowdown_are_named_in_the_figure() -> None:
    figure = ways_figure(example_selection(settings={"device_slowdown": 7.0}))
    axes = figure.draw(WIDE).axes[0]
    shown = {text.get_text() for text in axes.texts}
    assert {"split", "all on the device", "all on the edge", "3G", "4G", "WiFi", "7×, assumed"} <= shown
    marks = {tuple(np.concatenate(line.get_data())) for line in axes.lines if line.get_marker() == "o"}
    assert marks == {(1.1, 7.0), (5.85, 7.0), (18.88, 7.0)}


def test_links_close_together_are_all_drawn_and_as_many_named_as_have_room() -> None:
    links = {f"link {number}": 1e6 * 1.04**number for number in range(20)}
    axes = ways_figure(example_selection(layers=["a"], settings={"goodput_bps": links})).draw(WIDE).axes[0]
    assert len([line for line in axes.lines if line.get_marker() == "o"]) == 20
    named = [text.get_text() for text in axes.texts if text.get_text().startswith("link")]
    assert named[0] == "link 0"
    assert 1 < len(named) < 6


def test_a_name_stands_in_its_region() -> None:
    result = example_selection()
    found = project_map(result)
    axes = ways_figure(result).draw(WIDE).axes[0]
    ways = {"split": "split", "all on the device": "device", "all on the edge": "edge"}
    named = [text for text in axes.texts if text.get_text() in ways]
    assert len(named) == 3
    for text in named:
        across, up = text.get_position()
        row = int(np.argmin(abs(np.log(found.slowdowns / up))))
        column = int(np.argmin(abs(np.log(found.goodputs_bps / 1e6 / across))))
        assert found.way_at(row, column) == ways[text.get_text()]


def test_the_map_reaches_beyond_the_projects_links_and_slowdown() -> None:
    found = project_map(example_selection(settings={"device_slowdown": 80.0, "goodput_bps": {"LoRa": 5e3, "lab": 1e9}}))
    assert found.goodputs_bps[0] <= 2.5e3
    assert found.goodputs_bps[-1] >= 2e9
    assert found.slowdowns[-1] >= 160


@pytest.mark.parametrize("layer", [INPUT, OUTPUT, "conv1_1"])
def test_a_map_of_one_way_alone_can_be_drawn(layer: str) -> None:
    result = example_selection(layers=["conv1_1"], variants=("original",))
    kept = tuple(
        one if one.layer == layer else replace(one, reason="left out here") for one in result.selection.candidates
    )
    result = replace(result, selection=replace(result.selection, candidates=kept))
    figure = ways_figure(result)
    name = {INPUT: "all on the edge", OUTPUT: "all on the device"}.get(layer, "split")
    assert f"{name} in 100 %" in figure.sentences[0]
    others = [other for other in ("all on the device", "split", "all on the edge") if other != name]
    assert figure.sentences[1] == f"No candidate is left for: {', '.join(others)}."
    assert name in {text.get_text() for text in figure.draw(WIDE).axes[0].texts}


def test_times_measured_on_the_device_are_not_called_assumed() -> None:
    result = example_selection()
    measured = tuple(replace(one, device_origin="measured") for one in result.selection.candidates)
    result = replace(result, selection=replace(result.selection, candidates=measured))
    found: WayMap = project_map(result)
    here = {choice.link: choice.latency_ms for choice in result.selection.links}
    row = int(np.argmin(abs(np.log(found.slowdowns))))
    assert found.slowdowns[0] <= 1.0
    axes = ways_figure(result).draw(WIDE).axes[0]
    assert "as measured" in {text.get_text() for text in axes.texts}
    assert axes.get_ylabel() == "device slower than measured"
    column = int(np.argmin(abs(np.log(found.goodputs_bps / 1.1e6))))
    assert found.slowdowns[row] == pytest.approx(1.0, rel=0.1)
    best = min(float(times[row, column]) for times in found.fastest_ms.values())
    assert best == pytest.approx(here["3G"], rel=0.15)


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_links_of_different_round_trips_have_a_map_each(layout: Layout) -> None:
    result = with_links(example_selection(), TWO_TRIPS)
    figure = ways_figure(result)
    drawing = figure.draw(layout)
    marked = [
        {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"} for axes in drawing.axes
    ]  # fmt: skip
    assert marked == [{1.1, 18.88}, {5.85}]
    titles = [part.get_suptitle() for part in drawing.subfigs]
    assert titles == ["round trip 2 ms", "round trip 60 ms"]
    assert "At a round trip of 2 ms the fastest way is" in figure.sentences[0]
    assert "At a round trip of 60 ms the fastest way is" in figure.sentences[0]


def test_the_table_holds_what_is_fastest_at_each_round_trip() -> None:
    result = with_links(example_selection(), TWO_TRIPS)
    figure = ways_figure(result)
    rows = [dict(zip(figure.data.columns, row, strict=True)) for row in figure.data.rows]
    assert {row["round_trip_ms"] for row in rows} == {"2", "60"}
    for row in rows[::131]:
        scaled = [
            replace(one, device_ms=one.device_ms and one.device_ms / 5 * float(row["device_slowdown"]))
            for one in result.selection.candidates
        ]
        here = Link("here", float(row["goodput_bps"]), float(row["round_trip_ms"]))
        choice = select(scaled, [here], 1.0).links[0]
        assert float(row[f"{row['fastest']}_ms"]) == pytest.approx(choice.latency_ms, rel=2e-3)
        assert row["candidate"] == describe(result.selection.candidates[choice.candidate])


def test_of_many_round_trips_those_of_most_links_are_drawn_and_the_others_named() -> None:
    result = with_links(example_selection(), FIVE_TRIPS)
    figure = ways_figure(result)
    assert len(figure.draw(WIDE).axes) == 4
    assert {row[0] for row in figure.data.rows} == {"10", "20", "30", "40"}
    assert figure.sentences[-1] == (
        "Not drawn, because of their round trips: link 5 (50 ms); their latencies are in the bars per link."
    )
