"""Selecting from what lies in a project's folder: only what belongs together is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import HOST, item, run_of

from benchmarks.latency.table import import_run
from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from benchmarks.selection.selector import INPUT, OUTPUT
from exporter.project.settings import Project, SelectSection, load_project
from jetson.errors import CoopexportError


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def selected(project: Project, **settings: Any) -> ProjectSelection:
    return select_for_project(project, SelectSection(**settings), "cpu")


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
    content = json.loads((finished.variant_folder("pruned") / "whole.json").read_text())
    made_from = {**content["made_from"], "evaluation data": "others"}
    edit_whole(finished, "pruned", metric={**content["metric"], "samples": 17}, made_from=made_from)
    finished.path("data/evaluation.npz").unlink()  # a machine that has no data cannot tell which are the project's
    with pytest.raises(
        CoopexportError, match=r"pruned was measured with top1 on 17 images of .*, original with top1 on 200"
    ):
        selected(finished)


def test_a_network_exported_anew_has_to_be_split_anew(finished: Project) -> None:
    path = finished.variant_folder("pruned") / "model.layers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_sha256": "0" * 64}))
    with pytest.raises(CoopexportError, match=r"pruned was split before graph changed; run: coopexport split --all"):
        selected(finished)


def test_splits_come_in_the_order_of_the_network(finished: Project) -> None:
    layers = [candidate.layer for candidate in selected(finished).selection.candidates if candidate.variant == "pruned"]
    assert layers == [INPUT, INPUT, INPUT, OUTPUT, "pool3", "conv4_1"]
