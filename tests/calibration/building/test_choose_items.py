"""What is built for a target, and how: the request before the project, the project before the target."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests_support import files_below

from calibration.building.choose_items import BuildProjectRequest, choose_items, find_targets, settings_for
from engines.building.build_items import items_of_layer
from engines.targets.lookup import find_target
from exporter.bundles.precision_file import PrecisionFile, read_precision
from exporter.project.overrides import SettingError
from exporter.project.settings import BuildSection, Project, load_project
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def project(split_project: Path) -> Project:
    """A project that was split at conv4_1 and pool3, as original and pruned. Do not write into it."""
    return load_project(split_project / "coopexport.toml")


def test_targets_are_those_of_the_request_or_else_of_the_project(project: Project) -> None:
    assert [target.name for target in find_targets(project, BuildProjectRequest())] == ["cpu"]
    request = BuildProjectRequest(targets=("nano", "cpu"))
    assert [target.name for target in find_targets(project, request)] == ["nano@4.6.1", "cpu"]
    with pytest.raises(CoopexportError, match="did you mean orin-nano"):
        find_targets(project, BuildProjectRequest(targets=("orin-nan",)))


def test_what_the_request_says_comes_first_and_what_is_impossible_is_refused(project: Project) -> None:
    cpu, nano = find_target("cpu"), find_target("nano")
    plain = settings_for(project, cpu, BuildProjectRequest())
    assert (plain.precision, plain.batches) == ("fp32", (1, 1, 1))
    both = settings_for(project, cpu, BuildProjectRequest(precision="int8", batches=(1, 4, 16)))
    assert both == plain._replace(precision="int8", batches=(1, 4, 16))
    assert settings_for(project, cpu, BuildProjectRequest(batches=(2, 2, 2))) == plain._replace(batches=(2, 2, 2))
    with pytest.raises(CoopexportError, match="int8 kernels"):
        settings_for(project, nano, BuildProjectRequest(precision="int8"))
    with pytest.raises(SettingError, match=r"^batches: .*min, opt and max, in this order"):
        settings_for(project, cpu, BuildProjectRequest(batches=(4, 2, 8)))
    with pytest.raises(SettingError, match=r"^precision: "):
        settings_for(project, cpu, BuildProjectRequest(precision="int4"))  # type: ignore[arg-type]


def test_settings_of_a_request_are_keys_of_the_section() -> None:
    settings = {name for name, value in vars(BuildProjectRequest()).items() if value is None}
    assert settings == {"precision", "batches"} <= set(BuildSection.model_fields)


def test_roles_and_layers_narrow_what_is_built(project: Project) -> None:
    cpu = find_target("cpu")
    request = BuildProjectRequest(("pruned",), ("conv4_1",), roles=("tail",))
    chosen = choose_items(project, request, cpu, settings_for(project, cpu, request))
    tail = next(item for item in items_of_layer(project.variant_folder("pruned"), "conv4_1") if item.role == "tail")
    assert (chosen.items, chosen.converted, chosen.left_out) == ((tail,), (), 0)
    unknown = BuildProjectRequest(roles=("body",))  # type: ignore[arg-type]
    with pytest.raises(CoopexportError, match='role "body" is unknown; use head, tail, whole'):
        choose_items(project, unknown, cpu, settings_for(project, cpu, unknown))


def test_what_lacks_a_precision_is_converted_once(project: Project, tmp_path: Path) -> None:
    copy = load_project(Path(shutil.copytree(project.folder, tmp_path / "project")) / "coopexport.toml")
    cpu, folder = find_target("cpu"), copy.variant_folder("pruned")
    request = BuildProjectRequest(("pruned",), ("conv4_1",), precision="fp16")
    settings = settings_for(copy, cpu, request)
    told: list[tuple[PrecisionFile, ...]] = []
    steps: list[tuple[str, int, int]] = []
    counts: list[int] = []

    def choose() -> tuple[tuple[PrecisionFile, ...], list[str]]:
        chosen = choose_items(
            copy, request, cpu, settings, lambda *step: steps.append(step), counts.append, told.append
        )
        return chosen.converted, [item.graph.file for item in chosen.items]

    converted, files = choose()
    assert converted == (read_precision(folder, "conv4_1", "fp16"), read_precision(folder, "whole", "fp16"))
    assert files == ["conv4_1.head.fp16.onnx", "conv4_1.tail.fp16.onnx", "whole.fp16.onnx"]
    assert told == [converted]
    assert steps == [("converting to fp16", 1, 2), ("converting to fp16", 2, 2)]
    before = files_below(copy.folder)
    assert choose() == ((), files)
    assert (len(told), len(steps), set(counts)) == (1, 2, {0})
    assert files_below(copy.folder) == before
