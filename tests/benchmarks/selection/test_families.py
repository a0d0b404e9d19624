"""With a hundred variants: a baseline for each family, and figures that show few enough to be told apart."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from example_selection import example_selection
from example_variants import CONVOLUTIONS, WIDTHS, example_rows, two_step_selection

from benchmarks.figures.layers_figure import draw_bytes_and_time, layers_figure
from benchmarks.figures.links_figure import draw_latency, links_figure
from benchmarks.figures.report_figure import drawn
from benchmarks.selection.baselines import baselines
from benchmarks.selection.families import narrowest_within_bound, series_to_show
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms

KINDS = ("device only", "edge only raw", "edge only coded", "best split")
FAMILIES = ("original", "step 1", "step 2")


@pytest.fixture(scope="module")
def result() -> ProjectSelection:
    return two_step_selection()


def test_every_variant_is_a_candidate_and_each_family_a_baseline(result: ProjectSelection) -> None:
    assert {candidate.variant for candidate in result.selection.candidates} == {
        item.variant for item in result.variants
    }
    for goodput in (1e5, 1e6, 2e7):
        found = baselines(result.selection, goodput)
        assert [item.name for item in found] == [f"{kind}, {family}" for family in FAMILIES for kind in KINDS]


@pytest.mark.parametrize("goodput_bps", [3e5, 5.85e6, 1e8])
def test_a_baseline_is_the_fastest_of_its_family(result: ProjectSelection, goodput_bps: float) -> None:
    steps = {item.variant: item.step for item in result.variants}
    for item in baselines(result.selection, goodput_bps):
        kind, family = item.name.split(", ")
        allowed = {"original": ["original"], "step 1": ["step1", "control"], "step 2": ["step2"]}[family]
        times = []
        for candidate in result.selection.candidates:
            where = {"device only": OUTPUT, "best split": candidate.layer}.get(kind, INPUT)
            coding = {"edge only raw": "raw", "edge only coded": "jpeg q90"}.get(kind, candidate.coding)
            fits = (candidate.layer, candidate.coding) == (where, coding)
            fits = fits and (kind != "best split" or candidate.layer not in (INPUT, OUTPUT))
            if fits and steps[candidate.variant] in allowed and not candidate.reason:
                times.append(latency_ms(candidate, goodput_bps))
        assert item.latency_ms == pytest.approx(min(times))


def test_a_family_that_keeps_no_bound_still_has_its_baselines() -> None:
    names = [item.name for item in baselines(two_step_selection(maximum_loss_points=0.05).selection, 1e6)]
    assert "device only, step 2" in names
    assert "best split, step 2" not in names


def test_of_step_2_each_layer_shows_its_narrowest_within_the_bound(result: ProjectSelection) -> None:
    shown = series_to_show(result.variants, result.reference, 1.0)
    assert [series.name for series in shown] == [
        "variant original", "variant step1", "step 2, fewest bytes within 1 point",
    ]  # fmt: skip
    for split in shown[2].splits:
        allowed = [
            other.payload_bytes.mean
            for item in result.variants
            for other in item.splits
            if item.step == "step2"
            and other.layer == split.layer
            and 100 * (result.reference - other.metric.value) <= 1.0 + 1e-9
        ]
        assert split.payload_bytes.mean == min(allowed)
    assert [split.layer for split in shown[2].splits] == list(CONVOLUTIONS)
    assert narrowest_within_bound(result.variants, result.reference, 0.05) == []
    assert len(series_to_show(result.variants, result.reference, 0.05)) == 2


def test_without_two_steps_every_variant_is_shown() -> None:
    plain = example_selection()
    found = series_to_show(plain.variants, plain.reference, 1.0)
    assert [series.name for series in found] == ["variant original", "variant pruned"]
    assert [series.splits for series in found] == [item.splits for item in plain.variants]


def test_figures_of_a_hundred_variants_are_legible(result: ProjectSelection) -> None:
    assert len(result.variants) > 7 * len(WIDTHS)
    above, below = draw_bytes_and_time(result).axes
    assert len(above.patches) == 3 * len(CONVOLUTIONS)
    assert len(below.lines) == 3
    panels = draw_latency(result).axes
    assert [len(axes.get_yticks()) for axes in panels] == [len(KINDS) * len(FAMILIES) + 1] * len(result.selection.links)
    for svg in (drawn(layers_figure(result)).wide, drawn(links_figure(result)).narrow):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert sum(name.startswith("best split, step 2 (conv") for name in names) == 1


def test_one_layer_with_one_width_is_enough() -> None:
    rows = [row for row in example_rows(("conv4_1",)) if row.record.step != "step2" or row.record.method["width"] == 16]
    found = two_step_selection(rows)
    assert [len(series.splits) for series in series_to_show(found.variants, found.reference, 1.0)][2:] == [1]
