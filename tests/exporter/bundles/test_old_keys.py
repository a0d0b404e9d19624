"""Files that were written before some words changed: they load, and their keys stay what they are.

Projects and manifests call `std` of preprocessing `deviation`; message sizes are `least` and `largest`; a precision's
layers are `lowered` and `kept`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bundle_examples import affine, manifest, tensor, write_manifest

from exporter.bundles.bundle import FileRecord, PayloadBytes, read_split, write_bundle
from exporter.bundles.precision_file import FallbackLayer, RoleFile, Rounding
from exporter.project.freshness import changed_inputs, recorded
from exporter.project.inputs import project_inputs
from exporter.project.settings import Project, load_project
from exporter.project.template import project_text
from jetson.errors import CoopexportError
from jetson.runtime.bundle_manifest import read_bundle_manifest

STD = "std = [0.229, 0.224, 0.225]\n"
OLD = STD.replace("std", "deviation")


def project_with(folder: Path, lines: str) -> Project:
    text = project_text({"evaluation": "evaluation.npz"})
    assert text.count(STD) == 1, "init writes the new key"
    (folder / "coopexport.toml").write_text(text.replace(STD, lines))
    return load_project(folder / "coopexport.toml")


def test_a_project_file_with_the_old_key_means_the_same(tmp_path: Path) -> None:
    found = project_with(tmp_path, OLD).preprocessing
    assert found.std == (0.229, 0.224, 0.225)
    assert found == project_with(tmp_path, STD).preprocessing


def test_a_project_file_with_both_keys_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match=r"coopexport\.toml: preprocessing has std and deviation") as caught:
        project_with(tmp_path, STD + OLD)
    assert "\n" not in str(caught.value)


def bundle_with(folder: Path, **preprocessing: Any) -> str:
    content = manifest([tensor("/relu", (4, 2, 2), affine(4))])
    content["preprocessing"] = {"scale": 0.5, **preprocessing}
    return write_manifest(folder, content)


def test_a_manifest_with_the_old_key_is_read_on_both_sides(tmp_path: Path) -> None:
    path = bundle_with(tmp_path, deviation=[0.2, 0.3, 0.4])
    declared = read_split(tmp_path, "conv4_1").declared_preprocessing()
    assert declared.std == (0.2, 0.3, 0.4)
    assert read_bundle_manifest(path).preprocessing == declared


def test_a_manifest_with_both_keys_is_refused_on_both_sides(tmp_path: Path) -> None:
    path = bundle_with(tmp_path, deviation=[0.2], std=[0.2])
    with pytest.raises(CoopexportError, match="std and deviation"):
        read_bundle_manifest(path)
    with pytest.raises(CoopexportError, match="std and deviation"):
        read_split(tmp_path, "conv4_1").declared_preprocessing()


@pytest.mark.parametrize(("std", "is_fresh"), [(OLD, True), (OLD.replace("0.229", "0.23"), False)])
def test_nothing_is_stale_for_the_old_key(tmp_path: Path, std: str, is_fresh: bool) -> None:
    made_from = recorded(project_inputs(project_with(tmp_path, STD), "preprocessing"))
    now = project_inputs(project_with(tmp_path, std), "preprocessing")
    assert changed_inputs(made_from, now) == (() if is_fresh else ("preprocessing",))


def test_keys_on_disk_stay_as_they_were(tmp_path: Path) -> None:
    rounding = Rounding(output_error=1e-3, symbol_fraction=0.02, symbol_difference=1)
    layer = FallbackLayer(layer="fc", reason="chosen by name")
    role = RoleFile(file=FileRecord(file="x.onnx", sha256="a"), converted=("conv1",),
                    float32_layers=(layer,), bounds=rounding)  # fmt: skip
    sizes = PayloadBytes(mean=2.5, min=1, max=4, samples=2)
    for kind, record, keys in (
        (RoleFile, role, {"lowered": ["conv1"], "kept": [layer.model_dump()]}),
        (PayloadBytes, sizes, {"least": 1, "largest": 4}),
    ):
        write_bundle(tmp_path, "x.json", "coopexport.test/1.0", record, {})
        content = json.loads((tmp_path / "x.json").read_text())
        assert content.pop("schema") == "coopexport.test/1.0"
        assert keys.items() <= content.items()
        assert kind.model_validate(content) == record
