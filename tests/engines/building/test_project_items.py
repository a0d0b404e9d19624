"""What there is to build in a project: of which variants and cuts, in which roles, and what is left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pruning_variants import write_step2

from calibration.variants.register import open_evaluation
from engines.building.project_items import items_of_project
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, split_project: Path, coopexport: Callable) -> Project:
    """The split project with a variant of step 2, which is made for conv4_1 and split there. Do not write into it."""
    folder = Path(shutil.copytree(split_project, tmp_path_factory.mktemp("items") / "project"))
    project = load_project(folder / "coopexport.toml")
    write_step2(project, open_evaluation(project), "conv4_1", 3, 1000)
    result = coopexport(folder, "split", "--layer", "conv4_1", "--variant", "conv4_1-3")
    assert result.code == 0, result.errors
    return project


def test_all_parts_of_all_variants(project: Project) -> None:
    found = items_of_project(project)
    assert found.left_out == ()
    cuts = {"original": ("conv4_1", "pool3"), "pruned": ("conv4_1", "pool3"), "conv4_1-3": ("conv4_1",)}
    halves = {(variant, layer, role) for variant in cuts for layer in cuts[variant] for role in ("head", "tail")}
    wholes = {(variant, "whole", "whole") for variant in cuts}
    assert len(found.items) == len(halves | wholes)
    assert {(item.variant, item.layer, item.role) for item in found.items} == halves | wholes
    assert all((item.folder / item.graph.file).is_file() for item in found.items)


def test_variants_for_other_cuts_are_left_out_by_name(project: Project) -> None:
    found = items_of_project(project, layer_names=("pool3",), roles=("head",))
    assert [(item.variant, item.layer, item.role) for item in found.items] == [
        ("original", "pool3", "head"), ("pruned", "pool3", "head")
    ]  # fmt: skip
    assert found.left_out == ("conv4_1-3",)


def test_where_nothing_is_left_the_error_says_what_was_left_out(project: Project) -> None:
    with pytest.raises(CoopexportError, match=r"no split bundles to build \(left out: 1 variant not for pool3\); make"):
        items_of_project(project, ("conv4_1-*",), ("pool3",))
    with pytest.raises(CoopexportError, match=r"no split bundles to build; make them with: coopexport split"):
        items_of_project(project, ("pruned",), roles=())


def test_a_named_variant_without_bundles_is_an_error(project: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project.folder, tmp_path / "project"))
    for path in (folder / "out" / "pruned").glob("*.json"):
        if path.name not in ("shrink.json", "model.layers.json"):
            path.unlink()
    copy = load_project(folder / "coopexport.toml")
    assert {item.variant for item in items_of_project(copy).items} == {"original", "conv4_1-3"}
    with pytest.raises(CoopexportError, match="variant pruned has no bundles; make them with: coopexport split"):
        items_of_project(copy, ("pruned",))
