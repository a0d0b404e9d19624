"""Shrunk variants are proven again from their files, one by one, and what no longer holds is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from grouped_project import write_grouped_project
from pruning_variants import write_step1
from safetensors.torch import load_file, save_file

from calibration.variants.register import open_evaluation
from exporter.project.settings import Project, load_project
from exporter.variants.shrunk_variant import ShrinkRequest, write_shrunk_variant
from exporter.variants.variant_parity import ParityRequest, VariantParity, variants_parity
from jetson.errors import CoopexportError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_grouped_project(tmp_path)


def test_every_check_is_returned(project: Project) -> None:
    write_shrunk_variant(project, ShrinkRequest())
    (verified,) = variants_parity(project, ParityRequest()).variants
    assert verified.variant == "pruned"
    assert [check.check for check in verified.checks] == [
        "shrink", *[f"shrink-float32, batches of {size}" for size in (1, 2, 7, 16)]
    ]  # fmt: skip
    assert all(0 <= check.error < 1e-5 for check in verified.checks)
    assert verified.checks[0].error < 1e-9


@pytest.mark.parametrize(
    "damaged", ["out/pruned/weights.safetensors", "out/pruned/masks.safetensors", "net.safetensors"]
)
def test_what_is_not_what_was_proven_is_named(project: Project, damaged: str) -> None:
    write_shrunk_variant(project, ShrinkRequest())
    path = project.folder / damaged
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = ~tensors[name] if tensors[name].dtype == torch.bool else tensors[name] + 1
    save_file(tensors, path)
    said = "made before checkpoint changed" if damaged == "net.safetensors" else path.name
    with pytest.raises(CoopexportError, match=said):
        variants_parity(project, ParityRequest())


def test_what_holds_is_told_before_the_next_one_fails(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    write_step1(project, open_evaluation(project))
    told: list[VariantParity] = []
    found = variants_parity(project, ParityRequest(), told.append)
    assert [one.variant for one in found.variants] == ["pruned", "step1"]
    assert told == list(found.variants)
    told.clear()
    weights = project.variant_folder("step1") / "weights.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(CoopexportError, match="step1/weights"):
        variants_parity(project, ParityRequest(), told.append)
    assert [one.variant for one in told] == ["pruned"]
    assert [one.variant for one in variants_parity(project, ParityRequest(("pruned",))).variants] == ["pruned"]


def test_without_a_pruned_network_there_is_nothing_to_verify(project: Project) -> None:
    with pytest.raises(CoopexportError, match="there is no pruned network to verify: run coopexport shrink"):
        variants_parity(project, ParityRequest())
    with pytest.raises(CoopexportError, match='there is no variant "other"'):
        variants_parity(project, ParityRequest(("other",)))
