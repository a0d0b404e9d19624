"""The clip ranges of a project are those that the user's own network gives, and what is returned is what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_residual
import torch
from residual_project import write_residual_project

from calibration.splitting.calibrate_project import CalibratedVariant, CalibrateRequest, calibrate_project
from exporter.project.overrides import SettingError
from exporter.project.settings import SplitSection
from jetson.errors import CoopexportError
from jetson.files.json_files import read_json

INPUTS = torch.from_numpy(small_residual.IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / 128 - 1)


def features(module: str) -> np.ndarray:
    """Return what leaves a module of the user's network for every calibration image, N x C x H x W."""
    network, found = small_residual.network(), []
    network.get_submodule(module).register_forward_hook(lambda _module, _inputs, outputs: found.append(outputs))
    with torch.no_grad():
        network(INPUTS)
    return found[0].numpy()


def test_ranges_are_those_of_the_users_network(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path)
    told: list[CalibratedVariant] = []
    steps: list[tuple[str, int, int]] = []
    result = calibrate_project(
        project,
        CalibrateRequest(layers=("block2", "block1"), clip="minmax", granularity="channel"),
        lambda *step: steps.append(step),
        told.append,
    )
    (found,) = result.variants
    assert (told, result.left_out, found.variant, found.number, found.count) == ([found], 0, "original", 1, 1)
    assert [item.layer for item in found.ranges] == ["block1.Relu_1", "block2.Relu_1"]
    for item, module in zip(found.ranges, ("block1", "block2"), strict=True):
        wanted = features(module)
        assert wanted.std() > 0
        assert item.clip.low == pytest.approx(wanted.min(axis=(0, 2, 3)), abs=1e-5)
        assert item.clip.high == pytest.approx(wanted.max(axis=(0, 2, 3)), rel=1e-5)
    assert found.path == project.variant_folder("original") / "calibration.json"
    written = read_json(str(found.path), "coopexport.calibration/2.1")["ranges"]
    assert [tuple(clip["high"]) for clip in written.values()] == [item.clip.high for item in found.ranges]
    assert {task for task, _, _ in steps} == {"calibrating original (1 of 1)"}
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert steps[-1][1:] == (48, 48)


def test_without_a_layer_every_clean_cut_is_calibrated(tmp_path: Path) -> None:
    found = calibrate_project(write_residual_project(tmp_path), CalibrateRequest()).variants[0]
    assert [item.layer for item in found.ranges][:2] == ["stem", "block1.Add"]
    assert len(found.ranges) == 6


def test_floats_need_no_range_and_no_file(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path, 'encoding = "float32"\n')
    (found,) = calibrate_project(project, CalibrateRequest(layers=("block1",))).variants
    assert (found.ranges, found.path) == ((), None)
    assert not (project.variant_folder("original") / "calibration.json").exists()


def test_every_setting_of_a_request_is_a_key_of_the_section() -> None:
    settings = {name for name, value in vars(CalibrateRequest()).items() if value is None}
    assert settings and settings <= set(SplitSection.model_fields)


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    project = write_residual_project(tmp_path)
    with pytest.raises(SettingError, match=r"^percentile: Input should be greater than 50"):
        calibrate_project(project, CalibrateRequest(percentile=40))
    with pytest.raises(CoopexportError, match='there is no layer "block3"'):
        calibrate_project(project, CalibrateRequest(layers=("block3",)))
    with pytest.raises(CoopexportError, match="2 tensors cross there"):
        calibrate_project(project, CalibrateRequest(layers=("block1.conv1",)))
    assert not (project.variant_folder("original") / "calibration.json").exists()
