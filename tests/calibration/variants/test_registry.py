"""The registry: what is missing is made, what no longer holds is measured again, what cannot be is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pruning_variants import write_two_steps
from safetensors.torch import load_file, save_file

from calibration.variants.registry import open_registry
from exporter.project.settings import Project, load_project
from exporter.variants.layer_graphs import variants
from exporter.variants.record import VARIANT_FILE, read_variant_record
from exporter.variants.shrunk_variant import ShrinkRequest, write_shrunk_variant
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> Path:
    """A project with a pruned network and the variants of two steps. Do not write into it."""
    folder = Path(shutil.copytree(fresh_project, tmp_path_factory.mktemp("registry") / "project"))
    project = load_project(folder / "coopexport.toml")
    write_shrunk_variant(project, ShrinkRequest())
    write_two_steps(project)
    return folder


@pytest.fixture
def project(registered: Path, tmp_path: Path) -> Project:
    """A copy of it to write into."""
    return load_project(Path(shutil.copytree(registered, tmp_path / "project")) / "coopexport.toml")


def stamps(project: Project) -> dict[str, int]:
    return {name: (project.variant_folder(name) / VARIANT_FILE).stat().st_mtime_ns for name in variants(project)}


def test_what_has_no_record_gets_one_and_nothing_is_measured_twice(project: Project) -> None:
    counts: list[int] = []
    first = open_registry(project, counts.append)
    assert [record.variant for record in first.records] == variants(project)
    assert counts == list(range(1, len(first.records) + 1))
    original, pruned = first.records[:2]
    assert (original.step, original.parent, original.metric.loss_points) == ("original", None, 0.0)
    assert (pruned.step, pruned.parent, pruned.method) == (
        "given", "original", {"command": "shrink", "masks_from": "file"},
    )  # fmt: skip
    assert pruned.macs < original.macs
    assert pruned.metric.reference == original.metric.value
    before = stamps(project)
    assert open_registry(project) == first
    assert stamps(project) == before


def test_other_data_are_measured_again_with_the_same_lineage(project: Project) -> None:
    before = open_registry(project).records
    path = project.path("data/evaluation.npz")
    with np.load(path) as content:
        images, labels = content["images"][:50], content["labels"][:50]
    np.savez(path, images=images, labels=labels)
    found = open_registry(project)
    assert not found.outdated
    for old, new in zip(before, found.records, strict=True):
        assert (new.variant, new.step, new.cuts, new.training, new.widths) == (
            old.variant, old.step, old.cuts, old.training, old.widths,
        )  # fmt: skip
        assert new.metric.samples == 50
        right, all_right = new.right_images(), old.right_images()
        assert right is not None
        assert all_right is not None
        assert np.array_equal(right, all_right[:50])
        assert read_variant_record(project.variant_folder(new.variant)) == new


def test_variants_of_another_checkpoint_are_outdated(project: Project) -> None:
    open_registry(project)
    path = project.path(project.settings.model.checkpoint)
    weights = load_file(path)
    weights["classifier.bias"][0] += 1
    save_file(weights, path)
    found = open_registry(project)
    assert set(found.outdated) == {name for name in variants(project) if name not in ("original", "pruned")}
    assert "run: coopexport prune two-step" in found.outdated["conv4_1-3"]
    original, pruned = found.records[:2]
    assert pruned.metric.reference == original.metric.value


def test_a_project_without_evaluation_data_says_so(project: Project) -> None:
    file = project.folder / "coopexport.toml"
    file.write_text(file.read_text().replace('evaluation = "data/evaluation.npz"', ""))
    with pytest.raises(CoopexportError, match=r"data\.evaluation is not set"):
        open_registry(load_project(file))
