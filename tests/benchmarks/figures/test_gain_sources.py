"""Where a gain comes from: the parts are sums done by hand, add up to the whole, and are not made up where unknown."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from example_selection import example_selection
from example_variants import two_step_selection

from benchmarks.figures.gain_sources import GainSources, gain_sources
from benchmarks.figures.gains_figure import gains_figure, parts_of
from benchmarks.figures.svg import NARROW, WIDE
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Selection, select
from benchmarks.selection.step_gains import step_gains

LINK = {"1 Mbit/s": 1e6}  # a byte takes 8 us


def way(variant: str, layer: str, size: float, device_ms: float, edge_ms: float, family: str = "") -> Candidate:
    return Candidate(variant, layer, "x", size, device_ms, edge_ms, 0.9, 0.0, family=family)


ORIGINAL = (
    way("original", OUTPUT, 0, 20, 0), way("original", INPUT, 3000, 0.5, 4), way("original", "conv1", 1000, 4, 3),
    way("original", "conv2", 500, 9, 2),
)  # fmt: skip
STEP1 = tuple(replace(one, variant="step1", family="step 1", device_ms=(one.device_ms or 0) / 2) for one in ORIGINAL)
# Of step 2 only its own cut was measured, and all on one machine.
STEP2 = (way("conv2-4", "conv2", 50, 4, 1, "step 2"), way("conv2-4", OUTPUT, 0, 9, 0, "step 2"))


def sources(*candidates: Candidate) -> dict[str, GainSources]:
    return {gain.stage: gain for gain in gain_sources(select(candidates, LINK, 1.0))}


def test_splitting_alone_moves_the_cut_and_nothing_else() -> None:
    gain = sources(*ORIGINAL)["splitting"]
    # From all on the device, 20 ms, to the cut after conv2 (9 + 4 + 2 = 15): conv1 has 4 + 8 + 3 = 15 as well.
    assert gain.before_ms == 20
    assert gain.after_ms == 15
    assert (gain.computation_ms, gain.transmission_ms, gain.moved_cut_ms) == (0, 0, 5)


def test_pruning_is_compared_at_the_old_cut_and_the_rest_is_the_moved_cut() -> None:
    gain = sources(*ORIGINAL, *STEP1)["step 1"]
    # conv1 (the first of equals): 15 -> 2 + 8 + 3 = 13 at the same cut, then to all on the device, 10.
    assert (gain.before_ms, gain.after_ms) == (15, 10)
    assert gain.order == "cut kept, then moved"
    assert (gain.computation_ms, gain.transmission_ms, gain.moved_cut_ms) == (2, 0, 3)


def test_where_the_new_network_lacks_the_old_cut_the_cut_is_moved_first() -> None:
    step1 = tuple(one for one in STEP1 if one.layer == "conv1")
    only = (STEP2[0],)
    gain = sources(*ORIGINAL, *step1, way("step1", "conv2", 500, 4.5, 2, "step 1"), *only)["step 2"]
    # step 1 at its best, conv2: 4.5 + 4 + 2 = 10.5; step 2 there: 4 + 0.4 + 1 = 5.4. The cut stays.
    assert gain.order == "cut kept"
    assert gain.computation_ms == pytest.approx(1.5)
    assert gain.transmission_ms == pytest.approx(3.6)
    moved = sources(*ORIGINAL, *STEP1, *only)["step 2"]
    # step 1 at its best: all on the device, 10; at conv2: 4.5 + 4 + 2 = 10.5, half a millisecond lost; then 5.4.
    assert moved.order == "cut moved, then kept"
    assert moved.moved_cut_ms == pytest.approx(-0.5)
    assert moved.computation_ms == pytest.approx(1.5)
    assert moved.transmission_ms == pytest.approx(3.6)


def test_parts_that_nobody_measured_are_not_told_apart() -> None:
    bottleneck = way("conv1-bottleneck-1", "bottleneck", 10, 2, 1, "bottlenecks")
    gain = sources(*ORIGINAL, bottleneck)["bottlenecks"]
    assert (gain.order, gain.computation_ms, gain.transmission_ms, gain.moved_cut_ms) == (None, None, None, None)
    assert parts_of(gain) == {"not told apart": gain.saved_ms}
    assert gain.saved_ms == pytest.approx(15 - 3.08)


def test_parts_add_up_and_stages_lead_from_the_original_to_the_choice() -> None:
    result = two_step_selection()
    found = gain_sources(result.selection)
    for choice in result.selection.links:
        of_link = [gain for gain in found if gain.link == choice]
        assert [gain.stage for gain in of_link] == ["splitting", "step 1", "step 2"]
        for gain in of_link:
            assert sum(parts_of(gain).values()) == pytest.approx(gain.saved_ms)
            assert gain.saved_ms >= 0
        for before, after in itertools.pairwise(of_link):
            assert before.after == after.before
        assert of_link[-1].after_ms == choice.latency_ms
        # The same bests as in the table of what each step adds.
        step = next(item for item in step_gains(result.selection) if item.link == choice and not item.split)
        assert step.original is not None
        assert step.with_step1 is not None
        assert [gain.after_ms for gain in of_link[:2]] == [step.original.latency_ms, step.with_step1.latency_ms]


def test_a_network_pruned_elsewhere_is_a_stage_too() -> None:
    found = gain_sources(example_selection().selection)
    assert [gain.stage for gain in found[:2]] == ["splitting", "pruning"]


@pytest.mark.parametrize("layout", [WIDE, NARROW], ids=["wide", "narrow"])
def test_bars_are_the_parts(layout) -> None:
    result = example_selection()
    found = gain_sources(result.selection)
    panels = gains_figure(result).draw(layout).axes
    widths = [patch.get_width() for axes in panels for patch in axes.patches]
    assert widths == pytest.approx([part for gain in found for part in parts_of(gain).values()])
    for axes in panels:
        low, high = axes.get_xlim()
        assert all(low <= patch.get_x() + patch.get_width() <= high for patch in axes.patches)


def test_a_selection_in_which_nothing_of_the_original_holds_has_no_stage() -> None:
    lossy = tuple(replace(one, reason="loses 3.00 points, the limit is 1") for one in ORIGINAL)
    selection = select((*lossy, *STEP1), LINK, 1.0)
    assert isinstance(selection, Selection)
    assert gain_sources(selection) == []
    nothing = replace(example_selection(layers=["conv1_1"]), selection=selection)
    figure = gains_figure(nothing)
    assert figure.sentences[0] == "No stage has a candidate of the original before it: no gain is shown."
    assert [text.get_text() for text in figure.draw(WIDE).axes[0].texts] == ["nothing to compare"]
