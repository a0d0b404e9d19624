"""The head of the report: whether splitting pays, what the choice gains and by which term, and where it may tip."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from example_selection import example_selection
from round_trips import with_links

from benchmarks.links.link import Link
from benchmarks.report.summary import (
    Gain,
    foundations,
    gains,
    link_sentences,
    splitting_pays,
    summary,
    switch_point_nearby,
)
from benchmarks.selection.project_selection import ProjectSelection, options_of
from benchmarks.selection.selector import LinkChoice, Origin, describe, select
from benchmarks.selection.terms import is_split

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


def test_without_an_unsplit_candidate_nobody_knows_whether_a_split_pays() -> None:
    result = example_selection()
    candidates = tuple(
        replace(item, reason="left out here") if item.layer in ("input", "output") else item
        for item in result.selection.candidates
    )
    result = replace(result, selection=replace(result.selection, candidates=candidates))
    gain = gains_of(result, "3G")[0]
    assert (gain.baseline, gain.ratio, gain.is_faster) == (None, None, None)
    assert splitting_pays(result.selection, choice_of(result, "3G")) == "not known"
    page = "".join(summary(result))
    assert "none is left" in page
    assert "Whether splitting pays is not known: no candidate without a split is left to compare with." in page


def test_a_goodput_near_a_switch_point_shows_it() -> None:
    switch = example_selection().selection.intervals[2].from_bps
    near = example_selection(settings={"goodput_bps": {"below": 0.97 * switch, "above": 1.04 * switch, "far": 5e6}})
    for link, distance in (("below", -0.03), ("above", 0.04)):
        assert switch_point_nearby(near.selection, choice_of(near, link)) == pytest.approx((switch, distance))
    assert switch_point_nearby(near.selection, choice_of(near, "far")) is None
    assert f"{switch / 1e6:.3f} Mbit/s (-3.0 %)" in "".join(summary(near))


def test_a_switch_point_is_that_of_the_links_own_round_trip() -> None:
    """One round trip more makes the device alone best up to a higher goodput."""
    result = with_links(example_selection(), [Link("first", 5e6, 0.0), Link("there", 5e6, 1.0)])
    first, slow = result.selection.envelopes
    switch = slow.intervals[1].from_bps
    assert switch not in {interval.from_bps for interval in first.intervals}
    near = with_links(result, [Link("first", 5e6, 0.0), Link("there", 1.02 * switch, 1.0)])
    there = choice_of(near, "there")
    assert switch_point_nearby(near.selection, there) == pytest.approx((switch, 0.02))
    of_first = [interval.from_bps for interval in first.intervals[1:]]
    found = switch_point_nearby(near.selection, replace(there, round_trip_ms=0.0))
    assert found is None or found[0] in of_first
    assert sentences(near, "there").startswith(f"there ({1.02 * switch / 1e6:g} Mbit/s, 1 ms): ")


# --- Sentences ---


def sentences(result: ProjectSelection, link: str) -> str:
    return link_sentences(result, choice_of(result, link))


def test_a_choice_is_told_with_its_time_its_accuracy_and_its_gain() -> None:
    said = sentences(example_selection(), "4G")
    assert said == (
        "4G (5.85 Mbit/s): pruned, cut after pool1 (8-bit zlib-huffman), takes 2.647 ms and keeps 97.86 % top1. "
        "That is 2.03× as fast as the best without a split: pruned, all on the edge (raw), 5.385 ms. "
        "The unpruned network takes at best 6.763 ms."
    )


@pytest.mark.parametrize(("options", "where"), [(FAST, "all on the device"), (OFFLOAD, "all on the edge")])
def test_where_nothing_splits_the_report_says_so(options: dict[str, Any], where: str) -> None:
    result = example_selection(**options)
    page = "".join(summary(result))
    assert "Splitting pays on none of 3 links: nowhere is a split more than 5 % faster" in page
    for link in ("3G", "4G", "WiFi"):
        said = sentences(result, link)
        assert where in said
        assert "No split is faster: the best split is" in said or "That is a tie with the best split: " in said


def test_a_tie_is_called_a_tie() -> None:
    assert "That is a tie with the best without a split: " in sentences(example_selection(whole_ms=(24.8, 2.9)), "WiFi")


def test_without_anything_to_compare_with_nothing_is_compared() -> None:
    result = example_selection()
    for kept, said in ((False, "No candidate with a split is left to compare with."),
                       (True, "No candidate without a split is left to compare with.")):  # fmt: skip
        candidates = [
            one if is_split(one) == kept else replace(one, reason="left out here")
            for one in result.selection.candidates
        ]
        again = replace(result, selection=select(candidates, {"3G": 1.1e6}, 1.0))
        assert said in sentences(again, "3G")


def test_a_latency_bound_that_nothing_keeps_is_told_by_how_much() -> None:
    result = example_selection(settings={"maximum_latency_ms": 4.0})
    options = options_of(result.settings)
    selection = select(result.selection.candidates, {"3G": 1.1e6, "WiFi": 18.88e6}, 1.0, options)
    result = replace(result, selection=selection)
    over = choice_of(result, "3G").over_ms
    assert over > 0
    assert f"It is {over:.3f} ms over the latency bound, which nothing keeps here." in sentences(result, "3G")
    assert "over the latency bound" not in sentences(result, "WiFi")
    assert "Chosen is the most accurate within 4 ms that loses at most 1 point of top1." in "".join(summary(result))


def test_a_choice_for_its_accuracy_claims_no_speed() -> None:
    result = example_selection(settings={"maximum_latency_ms": 100.0})
    selection = select(result.selection.candidates, {"WiFi": 18.88e6}, 1.0, options_of(result.settings))
    said = sentences(replace(result, selection=selection), "WiFi")
    assert "original, all on the edge (raw)" in said
    assert "The best split is faster: pruned, cut after pool1" in said


# --- What it rests on ---


def rests_on(result: ProjectSelection) -> str:
    return "".join(foundations(result, [], []))


def with_origins(result: ProjectSelection, origins: Sequence[Origin]) -> ProjectSelection:
    """Return the result with the candidates' device times from each of `origins` in turn."""
    candidates = tuple(
        replace(one, device_origin=origin)
        for one, origin in zip(result.selection.candidates, itertools.cycle(origins), strict=False)
    )
    return replace(result, selection=replace(result.selection, candidates=candidates))


def test_scaled_times_are_called_an_assumption_and_measured_ones_are_not() -> None:
    result = example_selection()
    assumed = "every device time is a median measured on the machine of the edge, times 5 (device_slowdown)"
    assert assumed in rests_on(with_origins(result, ["scaled"]))
    measured = rests_on(with_origins(result, ["measured"]))
    assert "assumed" not in measured
    assert re.search(r"Device times of candidates: \d+ measured\.<", measured)


def test_mixed_origins_are_counted() -> None:
    result = with_origins(example_selection(), ["measured", "scaled", "predicted"])
    kept = [one for one in result.selection.candidates if not one.reason and one.device_ms]
    counts = Counter(one.device_origin for one in kept)
    said = ", ".join(f"{counts[word]} {word}" for word in ("measured", "scaled", "predicted"))
    assert f"Device times of candidates: {said}." in rests_on(result)


def test_candidates_that_are_left_out_are_counted_by_reason() -> None:
    result = example_selection(without=[("pruned", "conv3_2", "tail"), ("original", "pool4", "head")])
    lossy = sum(one.reason.startswith("loses") for one in result.selection.candidates)
    assert f"{lossy + 2} of 42 candidates are left out: {lossy} beyond the accuracy bound, 2 for other reasons" in (
        rests_on(result)
    )


def test_bytes_of_a_protocol_are_said_to_be_counted_where_they_are() -> None:
    result = example_selection()
    assert "the bytes of a protocol, the reply and the round trip are not counted" in rests_on(result)
    wired = tuple(replace(one, wire_bytes=one.payload_bytes + 100) for one in result.selection.candidates)
    wired_result = replace(result, selection=replace(result.selection, candidates=wired))
    assert "all bytes on the wire, protocol and reply included, over goodput" in rests_on(wired_result)
