"""What was not measured gets a time with its error and its mark, or the reason why it gets none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from drawn_cells import cells_of, drawn_chain, kernel

from benchmarks.prediction.kernels import Kernel
from benchmarks.prediction.predict import Cell, CellKey, Predictions, predict
from benchmarks.prediction.regression import leave_one_cut_out
from jetson.errors import InputError


@dataclass(frozen=True)
class Row:
    variant: str
    layer: str
    part: str
    p50_ms: float
    precision: str = "fp32"
    batch: int = 1


def time_ms(kernels: Sequence[Kernel]) -> float:
    return 0.02 + sum(
        2e-7 * item.macs + 0.01 if item.kind == "convolution" else 3e-7 * item.moved_bytes + 1e-7 * item.macs
        for item in kernels
    )


NOISE = np.random.default_rng(7)
MEASURED = cells_of(drawn_chain(np.random.default_rng(0), 16), lambda k: time_ms(k) * NOISE.normal(1.0, 0.05))
CELLS = [
    Cell(CellKey("original", item.cut, item.part, "fp32", 1), item.kernels, f"sha {index}")
    for index, item in enumerate(MEASURED)
]
ROWS = [Row("original", item.cut, item.part, item.ms) for item in MEASURED]
HIDDEN = ("cut4", "cut9")


def without(*cuts: str) -> list[Row]:
    return [row for row in ROWS if row.layer not in cuts]


def named(found: Predictions) -> dict[tuple[str, str], float]:
    return {(item.key.layer, item.key.part): item.ms for item in found.made}


def test_only_what_was_not_measured_is_predicted_and_marked() -> None:
    found = predict(without(*HIDDEN), CELLS)
    assert set(named(found)) == {(cut, part) for cut in HIDDEN for part in ("head", "tail")}
    assert {item.origin for item in found.made} == {"predicted"}
    assert found.refused == {}
    assert predict(ROWS, CELLS) == Predictions((), {})
    hashes = {cell.key: cell.source_sha256 for cell in CELLS}
    assert all(item.source_sha256 == hashes[item.key] for item in found.made)


def test_predictions_are_near_and_come_with_the_errors_of_their_part() -> None:
    found = predict(without(*HIDDEN), CELLS)
    known = [item for item in MEASURED if item.cut not in HIDDEN]
    errors, parts = leave_one_cut_out(known), np.array([item.part for item in known])
    truth = {(item.cut, item.part): time_ms(item.kernels) for item in MEASURED}
    for item in found.made:
        own = errors[parts == item.key.part]
        assert item.ms == pytest.approx(truth[item.key.layer, item.key.part], rel=0.15)
        assert item.error_share == pytest.approx(np.median(np.abs(own)))
        assert item.worst_error_share == pytest.approx(np.abs(own).max())
        assert item.low_ms <= item.ms <= item.high_ms
        # Nine of ten cells of this part, predicted without their cut, err within the range that is told.
        inside = (item.ms / (1 + own) >= item.low_ms - 1e-12) & (item.ms / (1 + own) <= item.high_ms + 1e-12)
        assert 0.8 <= inside.mean() < 1.0
        assert item.cells == len(known)


def test_a_prediction_says_in_a_line_what_it_rests_on() -> None:
    (first, *_) = predict(without(*HIDDEN), CELLS).made
    text = first.text()
    assert text.startswith(f"{first.ms:.3f} ms predicted ({first.low_ms:.3f} to {first.high_ms:.3f}; error at measured")
    assert f"median {first.error_share:.0%}, worst {first.worst_error_share:.0%}" in text


def test_settings_are_predicted_by_themselves() -> None:
    twice = [Cell(cell.key._replace(batch=2), cell.kernels, cell.source_sha256) for cell in CELLS]
    rows = [
        *without("cut4"),
        *(Row("original", row.layer, row.part, 3 * row.p50_ms, batch=2) for row in without("cut4")),
    ]
    found = predict(rows, [*CELLS, *twice])
    by_batch = {(item.key.batch, item.key.part): item.ms for item in found.made}
    assert by_batch[2, "head"] == pytest.approx(3 * by_batch[1, "head"])
    alone = predict(without("cut4"), [*CELLS, *twice])
    assert {item.key.batch for item in alone.made} == {1}
    assert all(
        key.batch == 2 and reason.startswith("too few times were measured") for key, reason in alone.refused.items()
    )
    assert len(alone.refused) == len(twice)


def test_a_kind_that_nobody_measured_is_refused_by_name() -> None:
    new = Cell(
        CellKey("other", "cut1", "head", "fp32", 1), (kernel("normalisation"), kernel("product of features")), ""
    )
    assert predict(ROWS, [*CELLS, new]).refused == {
        new.key: "no measured cell has a product of features or a normalisation"
    }
    (heads,) = {cell.part for cell in MEASURED if cell.part == "head"}
    found = predict([row for row in ROWS if row.part == heads], CELLS)
    assert found.refused[CellKey("original", "cut3", "tail", "fp32", 1)] == "no measured cell has a decoding"


def test_rows_of_other_parts_are_passed_over() -> None:
    others = [Row("original", "cut1", "encode", 5.0), Row("gone", "cut1", "head", 5.0)]
    assert named(predict([*without(*HIDDEN), *others], CELLS)) == named(predict(without(*HIDDEN), CELLS))


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(ms: float) -> None:
    with pytest.raises(InputError, match=rf"the time of original cut1 head is {ms} ms: nothing can be predicted"):
        predict([*ROWS, Row("original", "cut1", "head", ms)], CELLS)


def test_more_work_than_was_measured_is_said() -> None:
    small = [row for row in ROWS if row.part == "head" and row.layer in {f"cut{index}" for index in range(1, 9)}]
    found = predict(small, [cell for cell in CELLS if cell.key.part == "head"])
    far = next(item for item in found.made if item.key.layer == "cut15")
    assert far.beyond > 1.0 and far.text().endswith(f"; {far.beyond:.1f} times the work of any measured cell)")
