"""What a choice is compared with."""

from __future__ import annotations

from example_selection import example_selection

from benchmarks.selection.baselines import baselines
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms

LAYERS = ("conv1_1", "pool3", "conv4_1")


def test_baselines_are_the_best_of_their_kind() -> None:
    result = example_selection(LAYERS)
    candidates = result.selection.candidates
    for goodput in (1e5, 1e6, 1e8):
        found = {baseline.name: baseline for baseline in baselines(result.selection, goodput)}
        assert set(found) == {
            f"{kind}, {variant}"
            for kind in ("device only", "edge only raw", "edge only coded", "best split")
            for variant in ("original", "pruned")
        }
        for name, baseline in found.items():
            candidate = candidates[baseline.candidate]
            assert name.endswith(candidate.variant)
            assert baseline.latency_ms == latency_ms(candidate, goodput)
            if name.startswith("best split"):
                others = [
                    latency_ms(other, goodput)
                    for other in candidates
                    if other.variant == candidate.variant and other.layer not in (INPUT, OUTPUT) and not other.reason
                ]
                assert baseline.latency_ms == min(others)
            else:
                kind = name.partition(",")[0]
                assert (kind, candidate.layer, candidate.coding) in {
                    ("device only", OUTPUT, "nothing"),
                    ("edge only raw", INPUT, "raw"),
                    ("edge only coded", INPUT, "jpeg q90"),
                }


def test_no_choice_is_slower_than_a_baseline_that_keeps_the_bound() -> None:
    result = example_selection(LAYERS)
    for choice in result.selection.links:
        for baseline in baselines(result.selection, choice.goodput_bps):
            if not result.selection.candidates[baseline.candidate].reason:
                assert choice.latency_ms <= baseline.latency_ms


def test_baselines_without_a_split_stand_although_they_lose_too_much() -> None:
    result = example_selection(LAYERS, pruned_metric=0.5)
    names = [baseline.name for baseline in baselines(result.selection, 1e6)]
    assert "device only, pruned" in names
    assert "best split, pruned" not in names
    assert result.selection.candidates[result.selection.links[0].candidate].variant == "original"


def test_what_was_not_measured_is_no_baseline() -> None:
    result = example_selection(LAYERS, without=[("original", "whole", "preprocess")])
    names = [baseline.name for baseline in baselines(result.selection, 1e6)]
    assert all("original" not in name for name in names)
    assert len(names) == 4
