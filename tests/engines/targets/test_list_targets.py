"""`targets` as a function: all of them, those of a kind, and a project's own before the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from engines.targets.list_targets import TargetsRequest, list_targets, show_target
from engines.targets.lookup import load_targets
from engines.targets.target import Kind
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError

PROJECT = """schema = "coopexport.project/1.0"
[model]
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""
OWN = '[targets.truck]\nbase = "agx-orin"\nprecision = "int8"\ndla_core = 1\n[targets.cpu]\nsimplify = true\n'


def project_with(folder: Path, targets: str) -> Project:
    file = folder / "coopexport.toml"
    file.write_text(PROJECT + targets)
    return load_project(file)


def test_the_kinds_share_all_targets_among_them() -> None:
    everything = list_targets(None, TargetsRequest()).targets
    assert everything == tuple(load_targets().values())
    parts = [list_targets(None, TargetsRequest(kind)).targets for kind in get_args(Kind)]
    assert all({target.kind for target in part} == {kind} for kind, part in zip(get_args(Kind), parts, strict=True))
    assert sorted(target.name for part in parts for target in part) == sorted(load_targets())
    with pytest.raises(CoopexportError, match='no targets of the kind "phone", only generic, jetson, desktop'):
        list_targets(None, TargetsRequest("phone"))  # type: ignore[arg-type]


def test_a_projects_own_come_first_and_take_the_place_of_others(tmp_path: Path) -> None:
    project = project_with(tmp_path, OWN)
    truck, cpu, *others = list_targets(project, TargetsRequest()).targets
    known = load_targets()
    assert (truck.name, truck.chip, truck.precision, truck.dla_core) == ("truck", "tegra234", "int8", 1)
    assert cpu == replace(known["cpu"], simplify=True)
    assert others == [target for name, target in known.items() if name != "cpu"]
    jetsons = list_targets(project, TargetsRequest("jetson")).targets
    assert jetsons[0] == truck
    assert cpu not in jetsons


def test_one_target_is_found_by_name_in_the_project_and_beside_it(tmp_path: Path) -> None:
    project = project_with(tmp_path, OWN)
    assert show_target(project, "truck").description == show_target(None, "agx-orin").description
    assert show_target(project, "cpu").simplify
    assert not show_target(None, "cpu").simplify
    assert show_target(project, "nano").name == "nano@4.6.1"
    with pytest.raises(CoopexportError, match=r"did you mean rtx-ada\?"):
        show_target(project, "rtx-adda")


def test_a_project_with_a_target_that_cannot_be_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    project = project_with(tmp_path, '[targets.truck]\nbase = "agx-orion"\n')
    with pytest.raises(CoopexportError, match="agx-orin"):
        list_targets(project, TargetsRequest())
    with pytest.raises(CoopexportError, match="agx-orin"):
        show_target(project, "cpu")
