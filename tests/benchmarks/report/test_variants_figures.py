"""The table and the figures of all variants, from records made by hand."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from example_variants import CONVOLUTIONS, SAMPLES, WIDTHS, example_rows

from benchmarks.report.variants_figures import accuracy_figure, are_on_wire, draw_accuracy, short_count, step2_lines
from benchmarks.report.variants_table import Feature, VariantRow, sorted_rows
from calibration.metrics.confidence import wilson_interval
from jetson.errors import CoopexportError


def test_a_line_goes_from_step_1_to_the_narrowest() -> None:
    rows = example_rows(("conv4_1", "conv5_1"))
    by_bytes, by_macs = step2_lines(rows, "bytes"), step2_lines(rows, "macs")
    assert [line.name for line in by_bytes] == ["conv4_1", "conv5_1"]
    assert [len(line.points) for line in by_macs] == [len(WIDTHS) + 1] * 2
    first = by_bytes[0].points
    assert [point.x for point in first] == [12 + 0.4 * 2048, *(12 + 0.4 * 2048 * width / 64 for width in WIDTHS)]
    assert by_macs[0].points[0].x == 4_000_000
    assert first[0].value == pytest.approx(98.4)
    low, high = wilson_interval(984, SAMPLES)
    assert first[0].interval == (pytest.approx(100 * low), pytest.approx(100 * high))


def test_bytes_are_those_of_messages_only_where_all_were_measured() -> None:
    assert are_on_wire(example_rows())
    without = example_rows(wire=False)
    assert not are_on_wire(without)
    assert not are_on_wire([*example_rows()[:20], *without[20:]])
    assert step2_lines(without, "bytes")[0].points[-1].x == 256  # 16384 elements of 64 channels, one left


def test_layers_where_the_same_channels_cross_are_told_apart_by_bytes_alone() -> None:
    rows = []
    for row in example_rows(("conv4_1",)):
        (feature,) = row.features
        pooled = Feature("pool4", feature.symbol_bytes // 4, 12 + 0.1 * feature.symbol_bytes)
        cuts = None if row.record.cuts is None else ("conv4_1", "pool4")
        rows.append(VariantRow(row.record.model_copy(update={"cuts": cuts}), (feature, pooled), False))
    assert [line.name for line in step2_lines(rows, "macs")] == ["conv4_1, pool4"]
    conv, pool = step2_lines(rows, "bytes")
    assert (conv.name, pool.name) == ("conv4_1", "pool4")
    assert [point.x for point in pool.points][:2] == [12 + 0.1 * 2048, 12 + 0.1 * 2048]
    assert len(pool.points) == len(conv.points) == len(WIDTHS) + 1


def test_series_have_lines_of_their_own() -> None:
    rows = example_rows(("conv4_1",))
    renamed = [
        type(row)(row.record.model_copy(update={"series": "short"}), row.features, False)
        for row in rows
        if row.record.step == "step2"
    ]
    assert [line.name for line in step2_lines([*rows, *renamed], "macs")] == ["conv4_1", "short: conv4_1"]


@pytest.mark.parametrize(
    ("quantity", "wire", "axis"),
    [
        ("macs", True, "multiply-accumulates per sample"),
        ("bytes", True, "bytes on the wire at the cut, mean message"),
        ("bytes", False, "bytes of symbols at the cut, before entropy coding"),
    ],
)
def test_figures_say_what_they_show(quantity, wire: bool, axis: str) -> None:
    rows = example_rows(wire=wire)
    svg = accuracy_figure(rows, quantity, "top1", 1.0)
    assert svg == accuracy_figure(rows, quantity, "top1", 1.0)
    root = ElementTree.fromstring(svg)
    texts = ["".join(item.itertext()).strip() for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert axis in texts
    assert "top1, %" in texts
    assert [text for text in texts if text in CONVOLUTIONS] == list(CONVOLUTIONS)
    assert any(text.startswith("original, 98.60") for text in texts)
    assert "accuracy bound, 97.60" in texts
    assert ("original, 98.60 with 20M MACs" in texts) == (quantity == "macs")


def test_names_that_are_no_formula_are_shown_as_they_are() -> None:
    rows = example_rows(("conv4_1",))
    assert b"my_$metric$, %" in accuracy_figure(rows, "macs", "my_$metric$", 1.0)


def test_each_layer_looks_different_and_the_bound_is_in_sight() -> None:
    figure = draw_accuracy(example_rows(), "bytes", "top1", 1.0)
    near, whole = figure.axes
    looks = {(bars[0].get_color(), bars[0].get_marker()) for bars in near.containers}
    assert len(looks) == len(CONVOLUTIONS)
    assert near.get_ylim()[0] < 97.6 < 98.6 < near.get_ylim()[1]
    assert whole.get_ylim()[0] < 60
    assert near.get_xlim() == whole.get_xlim()
    assert near.get_xscale() == "log"


def test_a_network_without_pruning_has_figures_too() -> None:
    assert b"<svg" in accuracy_figure(example_rows()[:1], "bytes", "top1", 1.0)
    assert b"<svg" in accuracy_figure(example_rows()[:1], "macs", "top1", 1.0)


def test_rows_are_sorted() -> None:
    rows = example_rows(("conv4_1", "conv5_1"))
    assert sorted_rows(rows, None) == rows
    macs = [row.record.macs for row in sorted_rows(rows, "macs")]
    assert macs == sorted(macs)
    values = [row.record.metric.value for row in sorted_rows(rows, "metric")]
    assert values == sorted(values, reverse=True)
    sizes = [[feature.symbol_bytes for feature in row.own_features] for row in sorted_rows(rows, "bytes")]
    known = [size for size in sizes if size]
    assert known == sorted(known)
    assert sizes == [*known, *[[]] * 9]
    with pytest.raises(
        CoopexportError, match='variants cannot be ordered by "size"; choose one of macs, bytes, metric'
    ):
        sorted_rows(rows, "size")


def test_counts_are_short() -> None:
    assert [short_count(value) for value in (20, 999, 1500, 20_123_456)] == ["20", "999", "1.5k", "20.1M"]
