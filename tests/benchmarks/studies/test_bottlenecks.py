"""The page of bottlenecks seed by seed: its rows are what was exported, and its verdicts follow from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_study import TINY

from benchmarks.studies.bottlenecks import Row, measure, page
from exporter.bundles.bundle import read_split

RECIPE = replace(TINY, candidates=("pool1",), seed=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bottlenecks")


@pytest.fixture(scope="module")
def rows(folder: Path) -> tuple[Row, ...]:
    return measure(folder, RECIPE)


def test_rows_are_what_was_exported(rows: tuple[Row, ...], folder: Path) -> None:
    assert [(row.seed, row.tail) for row in rows] == [(4, "fine-tuned"), (4, "frozen")]
    for row in rows:
        bundle = read_split(folder / f"seed-4-{row.tail}" / "out" / "pool1-bottleneck-1", "bottleneck")
        assert row.bytes == bundle.payload_bytes.mean
        assert row.feature_bytes == 4 * 8 * 16 * 16
        assert (row.symbols, row.differing) == (20 * 2 * 8 * 8, 0)
        assert 0 < row.work_before < 1
        assert row.loss_points == pytest.approx(row.record.metric.loss_points)
    assert rows[0].record.metric.reference == rows[1].record.metric.reference  # one network, trained once


def test_what_was_done_is_kept(rows: tuple[Row, ...], folder: Path) -> None:
    trials = sorted(folder.glob("seed-4-*/out/bottlenecks/original/pool1/trial-*"))
    before = [path.stat().st_mtime_ns for path in trials]
    again = measure(folder, RECIPE)
    assert len(trials) == 2
    assert [path.stat().st_mtime_ns for path in trials] == before
    assert [row.bytes for row in again] == [row.bytes for row in rows]


@pytest.mark.parametrize(
    ("size", "loss", "picture", "wanted"),
    [(27.3, 1.0, 200.0, True), (27.4, 1.0, 200.0, False), (27.3, 1.1, 200.0, False), (27.3, 1.0, 136.4, False)],
)
def test_the_verdict_follows_from_bytes_loss_and_picture(rows, size, loss, picture, wanted) -> None:
    """A feature of 8,192 bytes: 1/300 is 27.3."""
    bundle = rows[0].bundle
    payload = bundle.payload_bytes.model_copy(update={"mean": size})
    metric = bundle.metric.model_copy(update={"value": rows[0].record.metric.reference - loss / 100 + 1e-12})
    row = replace(
        rows[0], bundle=bundle.model_copy(update={"payload_bytes": payload, "metric": metric}), picture_bytes=picture
    )
    assert row.is_wanted == wanted
    (line,) = (line for line in page([row]).splitlines() if line.startswith("| 4 |"))
    assert f"| {'yes' if wanted else '**no**'} | {row.file.estimated_bytes:.1f} |" in line


@pytest.mark.parametrize(("estimate", "near"), [(100.0, True), (89.4, True), (89.2, False), (113.5, False)])
def test_the_estimate_may_lie_three_percent_and_eight_bytes_off(rows, estimate: float, near: bool) -> None:
    payload = rows[0].bundle.payload_bytes.model_copy(update={"mean": 100.0})
    row = replace(
        rows[0],
        bundle=rows[0].bundle.model_copy(update={"payload_bytes": payload}),
        file=rows[0].file.model_copy(update={"estimated_bytes": estimate}),
    )
    assert row.is_as_estimated == near
