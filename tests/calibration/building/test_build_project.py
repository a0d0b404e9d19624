"""Building a project's engines here: what is returned lies on the disk, target by target, and a second time is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests_support import files_below

from calibration.building.build_project import TargetEngines, build_project
from calibration.building.choose_items import BuildProjectRequest
from exporter.project.settings import Project, load_project
from jetson.engines.identity import read_identity
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def project(split_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was split at conv4_1 and pool3, without engines, to write into."""
    ignored = shutil.ignore_patterns("engines")
    folder = Path(shutil.copytree(split_project, tmp_path_factory.mktemp("build") / "project", ignore=ignored))
    return load_project(folder / "coopexport.toml")


def test_engines_are_those_on_the_disk_and_a_second_time_they_are_kept(project: Project) -> None:
    request = BuildProjectRequest(("pruned",), ("conv4_1",), ("cpu", "orin-nano-cpu"))
    events: list[object] = []
    steps: list[tuple[str, int, int]] = []
    result = build_project(project, request, lambda *step: steps.append(step), events.append, events.append)
    assert [built.target.name for built in result.targets] == ["cpu", "orin-nano-cpu@6.2"]
    assert (result.converted, result.left_out) == ((), 0)
    assert events == [0, 0, *result.targets]  # all targets are looked at before the first engine is built
    folder = project.variant_folder("pruned")
    for built in result.targets:
        assert [(item.layer, item.role) for item in built.items] == [
            ("conv4_1", "head"),
            ("conv4_1", "tail"),
            ("whole", "whole"),
        ]
        for item, engine in zip(built.items, built.engines, strict=True):
            assert engine.path == item.engine_path(built.target, (1, 1, 1))
            assert engine.path.is_relative_to(folder / "engines" / built.target.name)
            assert engine.identity == read_identity(str(engine.path))
            assert engine.identity.source_sha256 == item.graph.sha256
            assert engine.origin == "built"
        task = f"building for {built.target.name}"
        assert [step for step in steps if step[0] == task] == [(task, done, 3) for done in (1, 2, 3)]
    before = files_below(project.folder)
    told: list[TargetEngines] = []
    again = build_project(project, request, on_result=told.append)
    assert tuple(told) == again.targets
    assert {engine.origin for built in again.targets for engine in built.engines} == {"reused"}
    assert files_below(project.folder) == before


def test_one_target_that_is_impossible_stops_all_before_the_first_engine(project: Project) -> None:
    before = files_below(project.folder)
    for targets, said in (
        (("cpu", "rtx-orin"), "TensorRT-RTX has no kernels for a Jetson"),
        (("cpu", "orin-nano"), "--device"),
        (("cpu", "nothing"), "nothing"),
    ):
        with pytest.raises(CoopexportError, match=said):
            build_project(project, BuildProjectRequest(("original",), ("pool3",), targets))
    assert files_below(project.folder) == before


def test_a_store_whose_limit_cannot_be_read_is_no_matter_without_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOPEXPORT_STORE_LIMIT", "plenty")
    with pytest.raises(CoopexportError, match="COOPEXPORT_STORE_LIMIT"):
        build_project(project, BuildProjectRequest(("original",), ("pool3",), roles=("head",)))
    request = BuildProjectRequest(("original",), ("pool3",), roles=("head",), use_store=False)
    (built,) = build_project(project, request).targets
    assert [engine.origin for engine in built.engines] == ["built"]
