"""Time up to each layer in the report: filled where it was measured, hollow where it is predicted, and how sure."""

from __future__ import annotations

import matplotlib.colors
import pytest
from example_selection import VGG_LAYERS, example_selection
from example_variants import two_step_selection

from benchmarks.figures.layer_curves import LayerCurves, in_network_order, layer_curves
from benchmarks.figures.layers_figure import draw_bytes_and_time, layers_figure, shown_variants
from benchmarks.figures.palette import LIGHT
from benchmarks.figures.svg import NARROW, WIDE, Layout
from benchmarks.prediction.cumulative import LayerTime
from benchmarks.prediction.project_layers import NetworkTimes
from benchmarks.selection.families import series_to_show

ALL = (*VGG_LAYERS, "fc")
CUT = ("conv1_2", "pool3", "conv5_1")


def times(slower: float, layers: tuple[str, ...] = ALL) -> NetworkTimes:
    return NetworkTimes(
        tuple(
            LayerTime(name, 64, slower * (1 + place), "measured" if name in CUT else "predicted")
            for place, name in enumerate(layers)
        ),
        (0.02 * slower, -0.05, 0.01),
    )


RESULT = example_selection(layers=CUT)
TIMES = {"original": times(2.0), "pruned": times(1.0)}


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_all_layers_have_a_time_and_those_with_a_cut_a_bar(layout: Layout) -> None:
    above, below = draw_bytes_and_time(RESULT, layout, TIMES).axes
    assert [text.get_text() for text in below.get_xticklabels()] == list(ALL)
    assert len(above.patches) == len(CUT) * 2
    paper = matplotlib.colors.to_hex(LIGHT["paper"])
    for number, slower in enumerate((2.0, 1.0)):
        line, filled, hollow = below.lines[3 * number : 3 * number + 3]
        assert list(line.get_ydata()) == [slower * (1 + place) for place in range(len(ALL))]
        assert [ALL[place] for place in filled.get_xdata()] == list(CUT)
        assert [ALL[place] for place in hollow.get_xdata()] == [name for name in ALL if name not in CUT]
        faces = [matplotlib.colors.to_hex(one.get_markerfacecolor()) for one in (filled, hollow)]
        assert faces == [matplotlib.colors.to_hex(line.get_color()), paper]


def test_the_error_is_said_in_words_and_the_table_says_what_is_predicted() -> None:
    figure = layers_figure(RESULT, TIMES)
    assert figure.sentences[1] == (
        "Each of 6 measured layers, predicted from the other cuts, is off by 3% in the median and 5% at worst."
    )
    assert "hollow where predicted" in figure.caption
    rows = [dict(zip(figure.data.columns, row, strict=True)) for row in figure.data.rows]
    of_pruned = {row["layer"]: row for row in rows if row["series"] == "variant pruned"}
    assert list(of_pruned) == list(ALL)
    for place, name in enumerate(ALL):
        row = of_pruned[name]
        assert float(row["up_to_layer_ms"]) == 1 + place
        assert row["up_to_layer_is"] == ("measured" if name in CUT else "predicted")
        assert bool(row["mean_payload_bytes"]) == bool(row["head_ms"]) == (name in CUT)


def test_without_predictions_measured_heads_stand_there_and_the_reason_is_said() -> None:
    plain = layers_figure(RESULT)
    assert len(plain.sentences) == 1
    reason = "too few times were measured"
    figure = layers_figure(RESULT, {"original": times(2.0), "pruned": reason})
    assert figure.sentences[1] == f"Only heads that were measured have a time: {reason}."
    for one in (plain, figure):
        assert "median time of the head" in one.caption
        _, below = one.draw(WIDE).axes
        assert [text.get_text() for text in below.get_xticklabels()] == list(CUT)
        assert [len(line.get_xdata()) for line in below.lines] == [len(CUT)] * 2
        column = one.data.columns.index("up_to_layer_ms")
        assert {row[column] for row in one.data.rows} == {""}


def test_of_step_two_each_network_has_the_time_up_to_its_own_cut() -> None:
    result = two_step_selection()
    series = series_to_show(result.variants, result.reference, 1.0)
    layers = tuple(split.layer for split in series[0].splits)
    found = {variant: times(1.0 + number, layers) for number, variant in enumerate(shown_variants(result))}
    curves = layer_curves(series, found)
    assert isinstance(curves, LayerCurves)
    points = curves.points[series[2].name]
    assert [(point.variant, point.layer) for point in points] == [
        (split.variant, split.layer) for split in sorted(series[2].splits, key=lambda split: split.variant)
    ]
    for point in points:
        expected = next(item.ms for item in found[point.variant].times if item.layer == point.layer)
        assert point.ms == expected
    assert len(curves.points[series[0].name]) == len(layers)
    assert layers_figure(result, found).draw(WIDE).axes[1].get_ylim()[1] > max(point.ms for point in points)


def test_a_network_of_very_many_layers_shows_those_with_a_cut() -> None:
    names = tuple(f"layer{number}" for number in range(61))
    many = {variant: times(1.0, (*names, *CUT)) for variant in TIMES}
    figure = layers_figure(RESULT, many)
    _, below = figure.draw(WIDE).axes
    assert [text.get_text() for text in below.get_xticklabels()] == list(CUT)
    assert len({row[0] for row in figure.data.rows}) == len(names) + len(CUT) + 1  # and the input


def test_layers_of_several_networks_keep_the_order_of_each() -> None:
    assert in_network_order([["a", "c", "d"], ["a", "b", "d", "e"]]) == ["a", "b", "c", "d", "e"]
    assert in_network_order([]) == []
