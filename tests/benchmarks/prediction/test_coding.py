"""Coding that was not measured gets a time from cuts of the same coder, or the reason why it gets none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.optimize import nnls

from benchmarks.prediction.coding import (
    CodingCell,
    CodingWork,
    MeasuredCoding,
    coding_errors,
    fit_coding,
    predict_coding,
)
from benchmarks.prediction.predict import CellKey
from jetson.errors import InputError

CACHE_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Row:
    layer: str
    p50_ms: float
    run: str = "new"
    codec: str = "rans-context"
    variant: str = "original"
    part: str = "encode"
    precision: str = "fp32"
    batch: int = 1


def time_ms(work: CodingWork, slower: float = 1.0) -> float:
    """What an interleaved run found: a cache of 2 MiB, so that not all weights count."""
    coded = 6e-6 * work.symbols + 8e-6 * work.payload_bytes
    return 0.04 + slower * coded + 2e-4 * work.contexts + 3e-8 * min(work.weight_bytes, CACHE_BYTES)


def works(count: int, seed: int = 0) -> list[CodingWork]:
    """Cuts that get narrower along a network, while the weights before them add up."""
    generator = np.random.default_rng(seed)
    found, weights = [], 0
    for place in range(count):
        symbols = int(16384 * 0.8**place * generator.uniform(0.8, 1.2)) + 64
        weights += int(2e4 * 1.35**place)
        payload = symbols * generator.uniform(0.2, 0.6)
        found.append(CodingWork(symbols, payload, int(generator.choice((1, 6, 96, 384))), weights))
    return found


def cells_of(found: list[CodingWork], codec: str = "rans-context") -> list[CodingCell]:
    return [
        CodingCell(CellKey("original", f"cut{place}", "encode", "fp32", 1), codec, work, f"sha {place}")
        for place, work in enumerate(found)
    ]


WORKS = works(18)
CELLS = cells_of(WORKS)
ROWS = [Row(f"cut{place}", time_ms(work)) for place, work in enumerate(WORKS)]
HIDDEN = ("cut3", "cut11")


def without(rows: list[Row], *cuts: str) -> list[Row]:
    return [row for row in rows if row.layer not in cuts]


def test_what_follows_the_law_is_found_and_marked() -> None:
    found = predict_coding(without(ROWS, *HIDDEN), CELLS, {"new": "c"})
    assert {item.key.layer: item.ms for item in found.made} == pytest.approx(
        {cell.key.layer: time_ms(cell.work) for cell in CELLS if cell.key.layer in HIDDEN}, rel=1e-6
    )
    assert found.refused == {}
    for item in found.made:
        assert (item.origin, item.codec, item.cells) == ("predicted", "rans-context", len(ROWS) - 2)
        assert item.source_sha256 == f"sha {item.key.layer.removeprefix('cut')}"
        assert "error at measured cuts: median 0%, worst 0%" in item.text()
    assert predict_coding(ROWS, CELLS, {"new": "c"}).made == ()


def test_weights_count_up_to_the_size_of_a_cache_that_is_found() -> None:
    assert max(work.weight_bytes for work in WORKS) > CACHE_BYTES
    model = fit_coding(
        [MeasuredCoding(row.layer, cell.work, row.p50_ms) for row, cell in zip(ROWS, CELLS, strict=True)]
    )
    assert model.cache_bytes == CACHE_BYTES
    assert model.coefficients == pytest.approx([0.04, 6e-6, 8e-6, 2e-4, 3e-8], rel=1e-6)


def test_errors_are_those_of_cuts_left_out_as_scipy_computes_them() -> None:
    noise = np.random.default_rng(2)
    cells = [
        MeasuredCoding(f"cut{place % 9}", work, time_ms(work) * noise.normal(1.0, 0.1))
        for place, work in enumerate(works(18, seed=1))
    ]
    expected = []
    for cell in cells:
        best = None
        others = [other for other in cells if other.cut != cell.cut]
        for cache_bytes in (2**19, 2**20, 2**21, 2**22, 2**23):

            def row(work: CodingWork, cache_bytes: int = cache_bytes) -> list[float]:
                weights = min(work.weight_bytes, cache_bytes)
                return [1.0, work.symbols / 1e4, work.payload_bytes / 1e4, work.contexts / 1e2, weights / 1e6]

            matrix = np.array([np.array(row(other.work)) / other.ms for other in others])
            solution, left = nnls(matrix, np.ones(len(others)))
            if best is None or left < best[0]:
                best = (left, float(np.dot(row(cell.work), solution)) / cell.ms - 1.0)
        assert best is not None
        expected.append(best[1])
    assert coding_errors(cells) == pytest.approx(expected, abs=1e-6)
    sizes = np.abs(coding_errors(cells))
    rows = [Row(cell.cut, cell.ms, variant=f"v{place}") for place, cell in enumerate(cells)]
    known = [
        CodingCell(CellKey(f"v{place}", cell.cut, "encode", "fp32", 1), "rans-context", cell.work, "")
        for place, cell in enumerate(cells)
    ]
    new = CodingCell(CellKey("v", "new", "encode", "fp32", 1), "rans-context", WORKS[4], "")
    (made,) = predict_coding(rows, [*known, new], {"new": "c"}).made
    assert (made.error_share, made.worst_error_share) == pytest.approx((np.median(sizes), sizes.max()))
    assert made.low_ms < made.ms < made.high_ms


def test_the_two_coders_are_never_put_together() -> None:
    """Python takes twenty times as long: half of the cuts were measured by each, and the last run's coder is meant."""
    python = [Row(row.layer, time_ms(cell.work, 20.0), "old") for row, cell in zip(ROWS, CELLS, strict=True)]
    rows = [*without(ROWS, *HIDDEN)[:12], *without(python, *HIDDEN)[12:]]
    for coders, slower in (
        ({"old": "python", "new": "c"}, 1.0),
        ({"new": "c", "old": "python"}, 20.0),
        ({}, 1.0),  # nothing is known of either: each run is by itself, and more was measured in this one
    ):
        made = predict_coding(rows, CELLS, coders).made
        assert len(made) == 2
        for item in made:
            place = int(item.key.layer.removeprefix("cut"))
            # The fewer cells of the one have no more columns than calls and symbols.
            assert item.ms == pytest.approx(time_ms(WORKS[place], slower), rel=1e-6 if slower == 1.0 else 0.35)


def test_a_codec_without_entropy_coder_is_the_same_in_every_run() -> None:
    cells = cells_of(WORKS, "raw")
    rows = [replace(row, codec="raw", run=f"run {place % 6}") for place, row in enumerate(without(ROWS, *HIDDEN))]
    found = predict_coding(rows, cells, {"run 0": "c", "run 1": "python"})
    assert {item.cells for item in found.made} == {len(rows)}


def test_other_codecs_parts_precisions_and_batches_are_not_predicted_from() -> None:
    rows = without(ROWS, *HIDDEN)
    for change in ({"codec": "rans"}, {"part": "decode"}, {"precision": "fp16"}, {"batch": 4}):
        others = [replace(row, **change) for row in rows]
        found = predict_coding(others, CELLS)
        assert found.made == ()
        assert found.refused[CELLS[3].key].startswith(
            "encode rans-context: too few times were measured to predict others from: 0 at 0 cuts; it takes 3 at 3 cuts"
        )


def test_too_few_cuts_are_refused_and_three_are_enough() -> None:
    assert len(predict_coding(ROWS[:3], CELLS, {"new": "c"}).made) == len(CELLS) - 3
    reason = predict_coding(ROWS[:2], CELLS, {"new": "c"}).refused[CELLS[5].key]
    assert ": 2 at 2 cuts; it takes 3 at 3 cuts; measure more: coopexport split" in reason
    twice = [*ROWS[:2], *(replace(row, variant="other") for row in ROWS[:2])]
    cells = [*CELLS, *(replace(cell, key=cell.key._replace(variant="other")) for cell in CELLS[:2])]
    assert ": 4 at 2 cuts; it takes 3 at 3 cuts" in predict_coding(twice, cells, {"new": "c"}).refused[CELLS[5].key]


def test_more_than_was_measured_is_said() -> None:
    found = predict_coding(ROWS[6:], CELLS, {"new": "c"})
    far = next(item for item in found.made if item.key.layer == "cut0")
    assert far.beyond > 1.0
    assert far.text().endswith(f"; {far.beyond:.1f} times the work of any measured cell)")


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_is_refused(ms: float) -> None:
    with pytest.raises(InputError, match=f"the time of original cut0 encode is {ms} ms: nothing can be predicted"):
        predict_coding([Row("cut0", ms), *ROWS[1:4]], CELLS)
