"""The front is what nothing beats in both; the table has every candidate with what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_selection import example_selection
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures.links_figure import links_figure
from benchmarks.figures.pareto_figure import front, pareto_figure
from benchmarks.figures.svg import WIDE
from benchmarks.selection.selector import latency_ms

POINTS = st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=12)


@given(POINTS)
def test_the_front_is_what_no_point_beats(points: list[tuple[float, float]]) -> None:
    unbeaten = {
        number
        for number, (cost, value) in enumerate(points)
        if not any(
            (c <= cost and v >= value and (c, v) != (cost, value)) or ((c, v) == (cost, value) and other < number)
            for other, (c, v) in enumerate(points)
        )
    }
    found = front(points)
    assert set(found) == unbeaten
    assert [points[number][0] for number in found] == sorted(points[number][0] for number in found)


def test_every_candidate_is_in_the_table_with_its_latencies_and_its_reason() -> None:
    result = example_selection(without=[("pruned", "conv3_2", "tail"), ("original", "pool4", "head")])
    data = pareto_figure(result).data
    rows = [dict(zip(data.columns, row, strict=True)) for row in data.rows]
    assert len(rows) == len(result.selection.candidates) == 42
    for row, candidate in zip(rows, result.selection.candidates, strict=True):
        assert (row["variant"], row["cut"], row["coding"]) == (candidate.variant, candidate.layer, candidate.coding)
        assert row["left_out"] == candidate.reason
        for choice in result.selection.links:
            if candidate.device_ms is None or candidate.edge_ms is None:
                assert row[f"{choice.link}, total_ms"] == ""
            else:
                here = latency_ms(candidate, choice.goodput_bps)
                assert float(row[f"{choice.link}, total_ms"]) == pytest.approx(here, abs=1e-4)
        assert row["device_ms"] == ("" if candidate.device_ms is None else f"{candidate.device_ms:.4f}")
        assert row["device_time_is"] == ("" if candidate.device_ms is None else "scaled")
    reasons = [row["left_out"] for row in rows]
    assert reasons.count("tail not measured; run: coopexport bench") == 1
    assert reasons.count("head not measured; run: coopexport bench") == 1
    assert reasons.count("loses 1.11 points, the limit is 1") == 1
    chosen = {link: row["number"] for row in rows for link in row["chosen"].split(", ") if link}
    assert chosen == {choice.link: str(choice.candidate) for choice in result.selection.links}
    for row in rows:  # what is fastest within the bound is on the front, unless one beyond the bound is faster
        assert (row["front"] == "") or row["3G, total_ms"]


def test_precision_and_batch_are_named_where_they_are_not_float32_and_one_image() -> None:
    result = example_selection(("conv4_1",))
    int8 = tuple(
        replace(one, precision="int8", batch=4 if one.layer == "input" else 1) for one in result.selection.candidates
    )
    result = replace(result, selection=replace(result.selection, candidates=int8))
    codings = {row[3] for row in pareto_figure(result).data.rows}
    assert codings == {
        "raw, int8, batch of 4",
        "jpeg q90, int8, batch of 4",
        "nothing, int8",
        "8-bit zlib-huffman, int8",
    }
    links = links_figure(result).data
    assert {row[links.columns.index("coding")] for row in links.rows} <= codings
    named = [text.get_text() for axes in links_figure(result).draw(WIDE).axes for text in axes.get_yticklabels()]
    assert "device only, pruned (int8)" in named
    assert "edge only raw, pruned (int8, batch of 4)" in named
    assert all("int8" in name for name in named)


def test_a_panel_for_each_link_and_one_for_bytes_with_the_chosen_ringed() -> None:
    result = example_selection()
    panels = pareto_figure(result).draw(WIDE).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "3G, 1.1 Mbit/s", "4G, 5.85 Mbit/s", "WiFi, 18.88 Mbit/s", "Bytes",
    ]  # fmt: skip
    for axes, choice in zip(panels, result.selection.links, strict=False):
        (ring,) = [line for line in axes.lines if line.get_markersize() == 9]
        assert list(ring.get_xdata()) == [choice.latency_ms]
        low, high = axes.get_xlim()
        assert low <= choice.latency_ms <= high
    drawn = sum(len(line.get_xdata()) for line in panels[0].lines if line.get_markersize() == 4.5)
    assert drawn == len(result.selection.candidates)


def test_what_lies_below_the_panels_is_counted() -> None:
    figure = pareto_figure(example_selection(pruned_metric=0.5))
    below = sum(float(row[5]) < 98.61 - 4 for row in figure.data.rows)
    assert below == 21
    assert figure.sentences == ("42 of 42 candidates have a latency; 21 of them lose more than 4 points and lie below "
                                "the panels.",)  # fmt: skip
