"""The page of bits per element says what the bundles say, and judges by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies.codecs_page.network import NetworkRecipe
from benchmarks.studies.feature_bits import Row, measure, page

RECIPE = NetworkRecipe(widths=(4,) * 13, train_count=256, evaluation_count=40, epochs=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, ...]:
    ways = (
        {"bits": 2, "clip": "mse", "granularity": "channel"},
        {"bits": 8, "clip": "minmax", "granularity": "tensor"},
    )
    return measure(tmp_path_factory.mktemp("project"), RECIPE, tmp_path_factory.mktemp("cache"), ("pool1",), ways)


def test_rows_are_bundles(rows: tuple[Row, ...], tmp_path: Path) -> None:
    assert [row.bundle.tensors[0].encoding.bits for row in rows] == [2, 8]
    for row in rows:
        assert row.bundle.tensors[0].shape == (4, 16, 16)
        assert row.bits_per_element == pytest.approx(8 * row.bundle.payload_bytes.mean / 1024)
        assert row.bundle.metric.samples == 40
    assert rows[0].bits_per_element < rows[1].bits_per_element


@pytest.mark.parametrize(("size", "loss", "wanted"), [(100, 1.0, True), (103, 0.0, False), (100, 1.1, False)])
def test_the_verdict_follows_from_bytes_and_loss(rows, size: float, loss: float, wanted: bool) -> None:
    """1,024 elements at 0.8 bits are 102.4 bytes."""
    bundle = rows[0].bundle
    payload = bundle.payload_bytes.model_copy(update={"mean": size})
    metric = bundle.metric.model_copy(update={"reference": 0.9, "value": 0.9 - loss / 100 + 1e-12})
    row = Row(rows[0].way, bundle.model_copy(update={"payload_bytes": payload, "metric": metric}))
    assert row.is_wanted == wanted
    (line,) = (line for line in page([row], RECIPE).splitlines() if line.startswith("| pool1 |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[5], float(cells[7]), cells[10]) == (f"{size:,}", loss, "yes" if wanted else "no")
