"""`shrink` as a function: what was written is told first, then what rounding costs, then what new masks are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from grouped_project import make_network, random_keep, without_line, write_grouped_project
from safetensors.torch import load_file

from calibration.variants.shrink_project import ShrinkPart, ShrunkNetwork, shrink_project
from exporter.bundles.bundle import Metric
from exporter.project.settings import Project, load_project
from exporter.shrinking.plan import read_shrink_plan
from exporter.shrinking.removal import ShrinkOptions
from exporter.variants.rounding_cost import RoundingCost
from exporter.variants.shrunk_variant import ShrinkRequest
from jetson.errors import CoopexportError

REVIVE = ShrinkRequest(options=ShrinkOptions(round_to=8), revive=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_grouped_project(tmp_path)


def test_a_lossless_shrink_is_proven_and_nothing_is_measured(project: Project) -> None:
    told: list[ShrinkPart] = []
    result = shrink_project(project, ShrinkRequest(), told.append)
    assert told == [result.network]
    assert (result.rounding, result.accuracy, result.unmeasured) == (None, None, None)
    assert result.network.path == project.variant_folder("pruned") / "shrink.json"
    assert [check.check for check in result.network.parity] == ["shrink", "shrink-float32"]
    stored = read_shrink_plan(result.network.path.parent)
    assert stored.layers == result.network.plan.layers
    assert stored.kept_although_masked == result.network.plan.kept_although_masked
    assert {size.name: size.channels_after for size in result.network.sizes} == {"conv1": 11, "conv2": 13, "fc": 5}


def test_what_changes_the_masks_is_measured_against_the_masks_as_given(project: Project) -> None:
    told: list[ShrinkPart] = []
    result = shrink_project(project, REVIVE, told.append)
    assert [type(part) for part in told] == [ShrunkNetwork, RoundingCost, Metric]
    assert told == [result.network, result.rounding, result.accuracy]
    assert result.accuracy is not None
    # The user's own network, with what the given masks take away set to zero behind the activations.
    network = make_network()
    network.load_state_dict(load_file(project.folder / "net.safetensors"))
    keep = {name: torch.from_numpy(value).view(-1, 1, 1) for name, value in random_keep(0).items()}
    for norm, name in ((network.eval().bn1, "conv1"), (network.bn2, "conv2")):
        norm.register_forward_hook(lambda module, inputs, output, name=name: output * keep[name])
    with np.load(project.folder / "data.npz") as content:
        images, labels = content["images"], content["labels"]
    with torch.no_grad():
        outputs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)))
    assert result.accuracy.reference == pytest.approx((outputs.argmax(1).numpy() == labels).mean())
    assert (result.accuracy.name, result.accuracy.samples) == ("top1", 32)


def test_an_approximation_is_measured_or_the_reason_is_said(project: Project) -> None:
    request = ShrinkRequest(project.path("weight.safetensors"), options=ShrinkOptions(approximate=0.5))
    result = shrink_project(project, request)
    assert result.accuracy is not None
    assert result.rounding is None
    assert 1e-6 < result.network.parity[0].error < 0.5
    blind = shrink_project(without_line(project, "evaluation ="), request)
    assert (blind.accuracy, blind.unmeasured) == (None, "the project names no data.evaluation")
    assert blind.network.plan.layers == result.network.plan.layers


def test_what_is_written_is_told_before_a_measurement_fails(project: Project) -> None:
    file = project.folder / "coopexport.toml"
    file.write_text(file.read_text().replace('evaluation = "data.npz"', 'evaluation = "gone.npz"'))
    told: list[ShrinkPart] = []
    with pytest.raises(CoopexportError, match=r"gone\.npz"):
        shrink_project(load_project(file), REVIVE, told.append)
    assert [type(part) for part in told] == [ShrunkNetwork, RoundingCost]
    assert (project.variant_folder("pruned") / "shrink.json").is_file()
