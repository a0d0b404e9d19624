"""The head of the report: whether splitting pays, what the choice gains and by which term, and where it may tip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from example_selection import example_selection

from benchmarks.report.summary import Gain, gains, splitting_pays, summary, switch_point_nearby
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import LinkChoice, describe

FAST: dict[str, Any] = {"whole_ms": (0.19, 0.08)}  # so fast that the device alone is best
OFFLOAD: dict[str, Any] = {"settings": {"device_slowdown": 500.0}}  # so slow a device that full offload is best


def choice_of(result: ProjectSelection, link: str) -> LinkChoice:
    return next(choice for choice in result.selection.links if choice.link == link)


def gains_of(result: ProjectSelection, link: str) -> tuple[Gain, Gain]:
    return gains(result.selection, choice_of(result, link))


def saved_ms(gain: Gain) -> list[float]:
    assert gain.baseline is not None
    before, after = gain.baseline.terms, gain.chosen.terms
    return [
        before.device_ms - after.device_ms,
        before.transmission_ms - after.transmission_ms,
        before.edge_ms - after.edge_ms,
    ]


def test_a_split_shows_the_terms_that_gain_and_the_one_that_pays() -> None:
    result = example_selection()
    unsplit, unpruned = gains_of(result, "4G")
    assert unsplit.baseline is not None
    assert unpruned.baseline is not None
    assert describe(unsplit.baseline.candidate) == "pruned, all on the edge (raw)"
    assert saved_ms(unsplit) == pytest.approx([-0.987, 3.557, 0.167], abs=5e-4)
    assert unsplit.ratio == pytest.approx(2.03, abs=5e-3)
    assert unpruned.baseline.candidate.variant == "original"
    assert unpruned.ratio == pytest.approx(2.55, abs=5e-3)
    assert (unsplit.is_faster, unpruned.is_faster) == ("yes", "yes")
    assert splitting_pays(result.selection, choice_of(result, "4G")) == "yes"
    page = "".join(summary(result))
    cells = '</td><td class="number">'.join(("-0.987", "+3.557", "+0.167", "2.03×"))
    assert f"{cells}</td><td>yes</td>" in page


@pytest.mark.parametrize(("options", "where"), [(FAST, "all on the device"), (OFFLOAD, "all on the edge")])
def test_where_one_machine_does_all_splitting_does_not_pay(options: dict[str, Any], where: str) -> None:
    result = example_selection(**options)
    split, unpruned = gains_of(result, "WiFi")
    assert where in describe(split.chosen.candidate)
    assert split.kind == "best split"
    assert split.baseline is not None
    assert split.baseline.terms.total_ms > split.chosen.terms.total_ms
    assert splitting_pays(result.selection, choice_of(result, "WiFi")) == "no"
    assert unpruned.is_faster == "yes"  # by pruning alone


def test_pruning_while_fully_offloaded_saves_edge_time_alone() -> None:
    # JPEG keeps the bound for neither, so that both upload the raw image.
    result = example_selection(settings={"device_slowdown": 500.0, "maximum_loss_points": 0.555})
    assert saved_ms(gains_of(result, "WiFi")[1]) == pytest.approx([0, 0, 3.4])


def test_a_gain_below_five_percent_is_a_tie() -> None:
    result = example_selection(whole_ms=(24.8, 2.9))
    gain = gains_of(result, "WiFi")[0]
    assert gain.ratio == pytest.approx(1.02, abs=5e-3)
    assert gain.is_faster == splitting_pays(result.selection, choice_of(result, "WiFi")) == "tie"


def test_an_unpruned_choice_gains_nothing_over_the_unpruned_network() -> None:
    result = example_selection(settings={"maximum_loss_points": 0.3})
    unpruned = gains_of(result, "3G")[1]
    assert unpruned.chosen.candidate.variant == "original"
    assert (unpruned.ratio, unpruned.is_faster) == (1.0, "no")


def test_without_an_unsplit_candidate_in_the_bound_a_split_pays_and_has_no_ratio() -> None:
    result = example_selection()
    candidates = tuple(
        replace(item, reason="left out here") if item.layer in ("input", "output") else item
        for item in result.selection.candidates
    )
    result = replace(result, selection=replace(result.selection, candidates=candidates))
    gain = gains_of(result, "3G")[0]
    assert (gain.baseline, gain.ratio, gain.is_faster) == (None, None, None)
    assert splitting_pays(result.selection, choice_of(result, "3G")) == "yes"
    assert "none keeps the accuracy bound" in "".join(summary(result))


def test_a_goodput_near_a_switch_point_shows_it() -> None:
    switch = example_selection().selection.intervals[2].from_bps
    near = example_selection(settings={"goodput_bps": {"below": 0.97 * switch, "above": 1.04 * switch, "far": 5e6}})
    for link, distance in (("below", -0.03), ("above", 0.04)):
        assert switch_point_nearby(near.selection, choice_of(near, link)) == pytest.approx((switch, distance))
    assert switch_point_nearby(near.selection, choice_of(near, "far")) is None
    assert f"{switch / 1e6:.3f} Mbit/s (-3.0 %)" in "".join(summary(near))
