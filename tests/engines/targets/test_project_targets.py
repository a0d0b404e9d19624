"""Targets of a project file: what they take from their base, what they change, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from engines.targets.lookup import find_target
from engines.targets.project_targets import build_settings, own_targets
from engines.targets.target import Target
from exporter.project.settings import BuildSection, TargetSection
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError


def own(name: str = "mine", **keys: object) -> Target:
    (target,) = own_targets({name: TargetSection.model_validate(keys)}).values()
    return target


def test_a_target_is_its_base_but_for_what_is_given() -> None:
    base = find_target("orin-nano@6.2")
    target = own(base="orin-nano", simplify=True, power_mode="25W", workspace_bytes=1 << 28)
    changed = {"name": "mine", "simplify": True, "power_mode": "25W", "workspace_bytes": 1 << 28}
    assert target == dataclasses.replace(base, **changed)
    assert own(base="rtx-ada", description="the office") == dataclasses.replace(
        find_target("rtx-ada"), name="mine", description="the office"
    )


@pytest.mark.parametrize("name", ["cpu", "orin-nano", "orin-nano@6.2", "orin-nano@6.2.1"])
def test_a_target_that_is_there_can_be_given_other_settings(name: str) -> None:
    found = own_targets({name: TargetSection(simplify=True)})
    full = find_target(name).name
    assert found == {full: dataclasses.replace(find_target(name), simplify=True)}
    assert find_target(name, found).simplify


def test_another_tensorrt_brings_what_it_can_do() -> None:
    older = own(base="agx-orin@6.2", tensorrt="8.4.1")
    assert (older.tensorrt, older.opset, older.uint8, older.dla_cores) == ("8.4.1", 17, False, 2)
    newer = own(base="agx-orin@6.2", tensorrt="11.4.1")
    assert (newer.tensorrt, newer.opset, newer.uint8, newer.dla_cores) == ("11.4.1", 24, True, 0)
    assert own(base="agx-orin@7.2", tensorrt="11.4.1", dla_cores=2).dla_cores == 2
    assert own(base="tensorrt-ada", tensorrt="10.13.3").opset == 22
    with pytest.raises(CoopexportError, match=r"TensorRT 7\.1\.3 is not supported; the oldest is 8\.2"):
        own(base="nano", tensorrt="7.1.3")
    with pytest.raises(CoopexportError, match=r"\[targets.mine\] tensorrt: rtx-ada is built by tensorrt-rtx"):
        own(base="rtx-ada", tensorrt="10.3")


def test_what_has_no_base_is_refused() -> None:
    with pytest.raises(CoopexportError, match=r'\[targets.mine\] is not a known target .* add one: base = "orin-nano"'):
        own(simplify=True)
    with pytest.raises(CoopexportError, match=r'target "orin-nanoo" is unknown; did you mean orin-nano\?'):
        own(base="orin-nanoo")
    with pytest.raises(CoopexportError, match=r'there is no target "nano@6.2"'):
        own("nano@6.2", simplify=True)


def test_power_modes_are_those_of_the_board_where_they_are_known() -> None:
    with pytest.raises(CoopexportError, match=r'orin-nano@6.2 has no "MAXN"; it has 15W, 25W, MAXN_SUPER'):
        own(base="orin-nano", power_mode="MAXN")
    assert own(base="thor", power_mode="120W").power_mode == "120W"


def test_settings_are_the_targets_then_those_of_build() -> None:
    build = BuildSection(precision="fp16", batches=(1, 2, 4))
    assert build_settings(own(base="orin-nano"), build) == BuildSettings("fp16", (1, 2, 4))
    target = own(
        base="agx-orin", precision="int8", batches=(2, 2, 2), workspace_bytes=99, dla_core=1, gpu_fallback=False,
        optimization_level=4,
    )  # fmt: skip
    assert build_settings(target, build) == BuildSettings("int8", (2, 2, 2), (), 99, 1, False, 4, tf32=False)
    assert build_settings(find_target("rtx-ada"), BuildSection()) == BuildSettings(compute_capabilities=("8.9",))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(CoopexportError, match="no int8 kernels"):
        build_settings(find_target("nano"), BuildSection(precision="int8"))
    with pytest.raises(CoopexportError, match=r"does not build for SM 8\.7 \(a Jetson's\)"):
        build_settings(own(base="rtx-ada", compute_capability="8.7"), BuildSection())
