"""What each step adds, by brute force, and equal training compared image by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from example_variants import SAMPLES, example_rows, record, step2, two_step_selection

from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms
from benchmarks.selection.step_gains import equal_training, step_gains
from calibration.metrics.confidence import paired_difference


@pytest.fixture(scope="module")
def result() -> ProjectSelection:
    return two_step_selection()


def test_gains_are_those_of_the_best_with_and_without_a_step(result: ProjectSelection) -> None:
    kinds = {item.variant: item.step for item in result.variants}
    allowed = ({"original"}, {"original", "step1", "control"}, {"original", "step1", "control", "step2"})
    gains = step_gains(result.selection)
    assert [gain.split for gain in gains] == [False] * 3 + [True] * 3
    for gain in gains:
        found = [
            min(
                latency_ms(candidate, gain.link.goodput_bps)
                for candidate in result.selection.candidates
                if kinds[candidate.variant] in steps_allowed
                and not candidate.reason
                and not (gain.split and candidate.layer in (INPUT, OUTPUT))
            )
            for steps_allowed in allowed
        ]
        bests = (gain.original, gain.with_step1, gain.with_step2)
        assert [best.latency_ms for best in bests if best is not None] == pytest.approx(found)
        assert gain.step1_adds == pytest.approx(found[0] / found[1])
        assert gain.step2_adds == pytest.approx(found[1] / found[2])
        assert min(found[0] / found[1], found[1] / found[2]) >= 1
    assert gains[0].with_step2 is not None
    assert gains[0].with_step2.candidate == result.selection.links[0].candidate


def test_a_step_that_is_missing_adds_nothing_known() -> None:
    rows = [row for row in example_rows(("conv4_1",)) if row.record.step == "original"]
    gain = step_gains(two_step_selection(rows).selection)[0]
    assert gain.step1_adds == gain.step2_adds == 1.0  # the original is still the best there is
    uncut = [replace(row, record=row.record.model_copy(update={"cuts": ("nowhere",)})) for row in rows]
    step1 = [row for row in example_rows(("conv4_1",)) if row.record.step == "step1"]
    gain = step_gains(two_step_selection([*uncut, *step1]).selection)[3]
    assert (gain.split, gain.original, gain.step1_adds, gain.step2_adds) == (True, None, None, 1.0)
    gain = step_gains(two_step_selection(uncut).selection)[3]
    assert (gain.with_step2, gain.step2_adds) == (None, None)


def test_each_variant_meets_the_control_of_its_training() -> None:
    records = [row.record for row in example_rows(("conv4_1", "conv5_1"))]
    pairs, alone = equal_training(records)
    assert alone == []
    assert [pair.variant.variant for pair in pairs] == [item.variant for item in records if item.step == "step2"]
    for pair in pairs:
        assert pair.control.training["images_since_step1"] == pair.variant.training["images_since_step1"]
        assert pair.control.step == "control"
        # In this example the right images of the worse one are among those of the better one.
        right = [round(SAMPLES * item.metric.value) for item in (pair.control, pair.variant)]
        only = (max(0, right[0] - right[1]), max(0, right[1] - right[0]))
        assert pair.difference == paired_difference(*only, SAMPLES)


def test_the_pairs_are_images_and_not_only_their_number() -> None:
    control = record("step1-control-1", "control", 500, 100, 640)
    other = (np.arange(SAMPLES) >= 500).astype(np.float64)
    opposite = step2("conv4_1", 8, 1).model_copy(
        update={"right": np.packbits(other.astype(bool)).tobytes().hex(), "training": {"images_since_step1": 640}}
    )
    ((pair,), _) = equal_training([control, opposite])
    assert pair.difference == paired_difference(500, 500, SAMPLES)


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"images_since_step1": 641}},
        {"training": {}},
        {"series": "other"},
        {"metric": {"data_sha256": "other data"}},
    ],
)
def test_unlike_variants_are_not_compared(changes: dict) -> None:
    control = record("step1-control-1", "control", 980, 100, 640)
    variant = step2("conv4_1", 8, 1).model_copy(update={"training": {"images_since_step1": 640}})
    assert len(equal_training([control, variant])[0]) == 1
    if "metric" in changes:
        changes = {"metric": variant.metric.model_copy(update=changes["metric"])}
    pairs, alone = equal_training([control, variant.model_copy(update=changes)])
    assert pairs == []
    assert len(alone) == 1


def test_step_1_itself_is_the_control_of_no_training() -> None:
    step1, fresh = record("step1", "step1", 980, 100, 0), step2("conv4_1", 8, 0)
    ((pair,), _) = equal_training([step1, fresh])
    assert pair.control is step1
    without = [item.model_copy(update={"right": None}) for item in (step1, fresh)]
    assert equal_training(without)[0][0].difference is None
