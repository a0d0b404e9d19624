"""Selecting for a project: what a choice is compared with, and what is written into the plan."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from example_selection import example_selection
from small_runs import HOST, item, run_of

from benchmarks.latency.table import import_run
from benchmarks.selection.project_selection import (
    ProjectSelection,
    baselines,
    describe,
    result_rows,
    select_for_project,
    write_plan,
)
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms
from exporter.bundles.bundle import images_sha256, read_split, read_whole
from exporter.project.settings import Project, SelectSection, load_project
from jetson.errors import CoopexportError
from jetson.runtime.plan import choose, read_plan

LAYERS = ("conv1_1", "pool3", "conv4_1")


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def selected(project: Project, **settings: Any) -> ProjectSelection:
    return select_for_project(project, SelectSection(**settings), "cpu")


def test_baselines_are_the_best_of_their_kind() -> None:
    result = example_selection(LAYERS)
    candidates = result.selection.candidates
    for goodput in (1e5, 1e6, 1e8):
        found = {baseline.name: baseline for baseline in baselines(result.selection, goodput)}
        assert set(found) == {
            f"{kind}, {variant}"
            for kind in ("device only", "edge only raw", "edge only JPEG", "best split")
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
                    ("edge only JPEG", INPUT, "jpeg q90"),
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


def test_the_plan_holds_what_was_selected(finished: Project) -> None:
    result = selected(finished, device_slowdown=3.0, maximum_loss_points=50.0)
    write_plan(finished, result)
    plan = read_plan(str(finished.output / "plan.json"))
    content = plan.content
    assert content["assumptions"]["device_slowdown"] == 3.0
    assert content["assumptions"]["latency_runs"] == sorted({row.run for row in result.rows})
    original = read_whole(finished.variant_folder("original"))
    assert content["bound"] == {
        "metric": "top1",
        "maximum_loss_points": 50.0,
        "reference": original.metric.value,
        "reference_variant": "original",
    }
    assert len(plan.candidates) == len(result.selection.candidates) == 2 * (3 + 2)
    for stored, candidate in zip(plan.candidates, result.selection.candidates, strict=True):
        fields = {key: value for key, value in dataclasses.asdict(candidate).items() if value not in (None, "")}
        assert {key: value for key, value in stored.items() if key != "files"} == fields
        assert all((finished.output / path).is_file() for path in stored["files"].values())
        roles = {"whole"} if candidate.layer in (INPUT, OUTPUT) else {"head", "tail"}
        assert set(stored["files"]) == roles
        for role in roles & {"head", "tail"}:
            assert stored["files"][role] == f"{candidate.variant}/{candidate.layer}.{role}.onnx"
    for link in content["links"]:
        assert finished.settings.select.goodput_bps[link["link"]] == link["goodput_bps"]
        assert choose(plan, link["goodput_bps"]) == link["candidate"]
        for baseline in link["baselines"].values():
            candidate = result.selection.candidates[baseline["candidate"]]
            assert baseline["latency_ms"] == latency_ms(candidate, link["goodput_bps"])
    assert content["intervals"][0]["from_bps"] == 0
    assert content["intervals"][-1]["upto_bps"] is None


def test_what_is_not_known_is_absent_from_the_plan(finished: Project) -> None:
    (finished.output / "latency.sqlite").unlink()
    folder = finished.variant_folder("pruned")
    whole, split = read_whole(folder), read_split(folder, "conv4_1")
    images = images_sha256(whole)
    measured = [
        item(part, layer="whole", source_sha256=sha256)
        for part, sha256 in (("preprocess", images), ("whole", whole.model.sha256))
    ]
    broken = [item("head", source_sha256=split.head.sha256, failure="RuntimeError: broken")]
    import_run(finished.output / "latency.sqlite", run_of(*measured, *broken))
    write_plan(finished, selected(finished, maximum_loss_points=100))
    plan = json.loads((finished.output / "plan.json").read_text())
    known = [c for c in plan["candidates"] if "reason" not in c]
    assert [(c["variant"], c["layer"]) for c in known] == [("pruned", OUTPUT)]
    for candidate in plan["candidates"]:
        assert None not in candidate.values()
        if candidate not in known:
            assert "device_ms" not in candidate or "edge_ms" not in candidate
    (cut,) = [c for c in plan["candidates"] if (c["variant"], c["layer"]) == ("pruned", "conv4_1")]
    assert cut["reason"] == "head failed when it was measured (RuntimeError: broken)"
    assert {link["candidate"] for link in plan["links"]} == {plan["candidates"].index(known[0])}


def test_rows_of_another_target_are_not_taken(finished: Project) -> None:
    with pytest.raises(CoopexportError, match=r"no candidate is left to choose from: .*run: coopexport bench"):
        select_for_project(finished, SelectSection(), "cuda")


def test_a_newer_run_on_another_machine_is_not_mixed_with_the_old_one(finished: Project) -> None:
    assert not all(candidate.reason for candidate in selected(finished).selection.candidates)
    elsewhere = run_of(item("head"), host={**HOST, "processor": "Another CPU"}, started_at="2099-01-01T00:00:00+00:00")
    import_run(finished.output / "latency.sqlite", elsewhere)
    with pytest.raises(CoopexportError, match="no candidate is left"):
        selected(finished)


def test_a_missing_table_names_the_command(finished: Project) -> None:
    (finished.output / "latency.sqlite").unlink()
    with pytest.raises(CoopexportError, match="fill it with: coopexport bench"):
        selected(finished)


def test_without_the_original_there_is_nothing_to_count_losses_from(finished: Project) -> None:
    (finished.variant_folder("original") / "whole.json").unlink()
    with pytest.raises(CoopexportError, match=r"variant original is not split: .*coopexport split --all"):
        selected(finished)


def test_without_the_pruned_variant_the_original_is_selected_from(finished: Project) -> None:
    (finished.variant_folder("pruned") / "whole.json").unlink()
    assert {candidate.variant for candidate in selected(finished).selection.candidates} == {"original"}


def edit_whole(project: Project, variant: str, **fields: Any) -> None:
    path = project.variant_folder(variant) / "whole.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_variants_measured_on_other_data_are_not_compared(finished: Project) -> None:
    metric = json.loads((finished.variant_folder("pruned") / "whole.json").read_text())["metric"]
    edit_whole(finished, "pruned", metric={**metric, "samples": 17})
    with pytest.raises(
        CoopexportError, match=r"pruned was measured with top1 on 17 images of .*, original with top1 on 200"
    ):
        selected(finished)


def test_a_network_exported_anew_has_to_be_split_anew(finished: Project) -> None:
    path = finished.variant_folder("pruned") / "model.layers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_sha256": "0" * 64}))
    with pytest.raises(CoopexportError, match="variant pruned was exported anew since it was split"):
        selected(finished)


def test_splits_come_in_the_order_of_the_network(finished: Project) -> None:
    layers = [candidate.layer for candidate in selected(finished).selection.candidates if candidate.variant == "pruned"]
    assert layers == [INPUT, INPUT, OUTPUT, "pool3", "conv4_1"]


def test_the_printed_table_says_what_the_plan_does() -> None:
    result = example_selection(LAYERS)
    rows = list(result_rows(result))
    chosen = [row for row in rows if row[1] == "chosen"]
    assert len(chosen) == len(result.selection.links) == 3
    for row, choice in zip(chosen, result.selection.links, strict=True):
        assert row[2] == describe(result.selection.candidates[choice.candidate])
        assert row[5] == f"{choice.latency_ms:.3f}"
    assert [row[0] for row in rows if row[0]] == ["3G 1.1 Mbit/s", "4G 5.85 Mbit/s", "WiFi 18.88 Mbit/s"]
    kinds = {describe(candidate) for candidate in result.selection.candidates if candidate.variant == "pruned"}
    assert "pruned, all on the device" in kinds
    assert "pruned, all on the edge (jpeg q90)" in kinds
    assert "pruned, cut after conv4_1 (8-bit zlib-huffman)" in kinds
