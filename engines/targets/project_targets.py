"""Targets as a project file has them, and the settings that a target is built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engines.targets.capabilities import check_supported, check_target_name
from engines.targets.catalogue import full_name, tensorrt_properties
from engines.targets.lookup import find_target, load_targets
from engines.targets.target import Target
from exporter.project.settings import BuildSection, TargetSection
from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError


def own_targets(sections: Mapping[str, TargetSection]) -> dict[str, Target]:
    """Return the targets of `[targets.<name>]` by name.

    Raises CoopexportError when a base is unknown, or a value is none that the base can take.
    """
    return {full_name(name): _own_target(full_name(name), section) for name, section in sections.items()}


def build_settings(target: Target, build: BuildSection) -> BuildSettings:
    """Return how to build for `target`: as it says, and where it says nothing as `[build]` does.

    Raises CoopexportError when that is impossible.
    """
    is_ahead_of_time = target.backend == "tensorrt-rtx" and target.compute_capability is not None
    settings = BuildSettings(
        precision=target.precision or build.precision,
        batches=target.batches or build.batches,
        compute_capabilities=(str(target.compute_capability),) if is_ahead_of_time else (),
        workspace_bytes=target.workspace_bytes,
        dla_core=target.dla_core,
        gpu_fallback=target.gpu_fallback,
        optimization_level=target.optimization_level,
    )
    check_supported(target, settings)
    return settings


def _own_target(name: str, section: TargetSection) -> Target:
    if section.base is None and name not in load_targets():
        check_target_name(name)
        raise InputError(f"[targets.{name}] is not a known target and has no base", fix='add one: base = "orin-nano"')
    base = find_target(section.base or name)
    given = section.model_dump(exclude={"base"}, exclude_none=True)
    changes: dict[str, Any] = {**given, "name": name}
    if section.tensorrt is not None:
        changes = {**_of_tensorrt(name, base, section.tensorrt), **changes}
    own = replace(base, **changes)
    if own.power_mode is not None and own.power_modes and own.power_mode not in own.power_modes:
        known = ", ".join(own.power_modes)
        raise InputError(f'[targets.{name}] power_mode: {base.name} has no "{own.power_mode}"; it has {known}')
    return own


def _of_tensorrt(name: str, base: Target, version: str) -> dict[str, Any]:
    """Return what changes when `base` has another TensorRT than the one that it comes with."""
    if base.backend != "tensorrt":
        raise InputError(f"[targets.{name}] tensorrt: {base.name} is built by {base.backend}", fix="leave the key out")
    properties = tensorrt_properties(version)
    changes = {key: properties[key] for key in ("opset", "uint8")}
    return changes if properties["dla"] else {**changes, "dla_cores": 0}
