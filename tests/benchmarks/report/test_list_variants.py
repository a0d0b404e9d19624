"""The verb variants: every variant with its record of now, and both figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.report.list_variants import VariantsRequest, VariantsResult, list_variants
from exporter.bundles.bundle import read_split
from exporter.project.settings import Project, load_project
from exporter.variants.record import read_variant_record


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def test_every_variant_is_listed_and_drawn(finished: Project) -> None:
    told: list[tuple[str, int, int]] = []
    before: list[VariantsResult] = []

    def on_result(found: VariantsResult) -> None:
        assert not (finished.output / "figures").exists()
        before.append(found)

    result = list_variants(finished, VariantsRequest(), lambda *report: told.append(report), on_result)
    assert told == [("measuring variants", done, 2) for done in range(3)]
    assert [row.record.variant for row in result.rows] == ["original", "pruned"]
    assert result.original == read_variant_record(finished.variant_folder("original"))
    original, pruned = (row.record for row in result.rows)
    assert pruned.macs < original.macs
    assert pruned.metric.reference == original.metric.value
    assert result.outdated == {}
    assert result.figures == tuple(
        finished.output / "figures" / f"accuracy_against_{name}.svg" for name in ("macs", "bytes")
    )
    assert all(b"<svg" in path.read_bytes() for path in result.figures)
    assert [found.rows for found in before] == [result.rows]
    assert before[0].figures == ()


def test_a_variant_that_cannot_be_made_again_is_named_and_keeps_its_record(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert list_variants(finished).figures == ()
    recorded = read_variant_record(finished.variant_folder("pruned"))
    masks = finished.folder / "masks.safetensors"
    masks.write_bytes(masks.read_bytes() + b" ")
    result = list_variants(finished, VariantsRequest(sort="macs"))
    assert list(result.outdated) == ["pruned"]
    assert "was made before masks changed" in result.outdated["pruned"]
    assert [(row.record.variant, row.outdated) for row in result.rows] == [("pruned", True), ("original", False)]
    assert result.rows[0].record == recorded


def test_bytes_are_those_of_the_bundles_of_now(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    list_variants(finished)
    path = finished.variant_folder("pruned") / "variant.json"
    record = read_variant_record(path.parent)
    path.write_text(path.read_text().replace('"step"', '"cuts": ["conv4_1", "pool4"], "step"', 1))
    (row,) = (row for row in list_variants(finished).rows if row.record.variant == "pruned")
    cut, pool = row.own_features
    assert record.cuts is None
    assert (cut.layer, pool.layer) == ("conv4_1", "pool4")
    assert cut.wire_bytes == read_split(path.parent, "conv4_1").payload_bytes.mean
    assert pool.wire_bytes is None  # not split there
    assert cut.symbol_bytes == 4 * pool.symbol_bytes
