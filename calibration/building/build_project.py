"""Build the engines of a project on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from calibration.building.choose_items import (
    BuildProjectRequest,
    OnConverted,
    OnLeftOut,
    choose_items,
    find_targets,
    settings_for,
)
from engines.building.build import BuildResult, build, builder_version
from engines.building.build_items import BuildItem
from engines.building.prepared_file import check_preparable
from engines.host.this_machine import this_machine
from engines.targets.target import Target
from exporter.bundles.precision_file import PrecisionFile
from exporter.progress import OnProgress, counter, ignore, no_progress
from exporter.project.settings import Project
from exporter.variants.choice import naming
from jetson.store.location import store_limit_bytes, store_root
from jetson.store.store import EngineStore


@dataclass(frozen=True)
class TargetEngines:
    """What was built for one target: an engine for each item, in their order."""

    target: Target
    items: tuple[BuildItem, ...]
    engines: tuple[BuildResult, ...]


@dataclass(frozen=True)
class BuildProjectResult:
    """What was built, target by target.

    `converted`: what had to be converted to another precision first. `left_out`: how many variants are not for the
    layers that were asked for.
    """

    targets: tuple[TargetEngines, ...]
    converted: tuple[PrecisionFile, ...]
    left_out: int


def build_project(
    project: Project,
    request: BuildProjectRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[TargetEngines], None] | None = None,
    on_left_out: OnLeftOut | None = None,
    on_converted: OnConverted | None = None,
) -> BuildProjectResult:
    """Build the engines of a project's bundles for all targets on this machine, each with an identity file.

    `on_result` gets each target as it is done; `on_left_out`, before, how many variants are not for the layers that
    are asked for, and `on_converted` what had to be converted to another precision. Raises CoopexportError when a
    target, variant or bundle does not exist, when preflight refuses any of it, before the first is built, and at the
    first that a builder refuses; what was built before stays then.
    """
    targets = find_targets(project, request)
    store = _own_store() if request.use_store else None
    machine = this_machine()
    settings = [settings_for(project, target, request) for target in targets]
    for target in targets:
        builder_version(target)
    every = [
        choose_items(project, request, target, how, on_progress, on_left_out or ignore, on_converted or ignore)
        for target, how in zip(targets, settings, strict=True)
    ]
    for chosen in every:
        if chosen.target.backend != "onnxruntime":  # it takes every standard operator
            check_preparable(chosen.items, chosen.target, chosen.settings)
    built: list[TargetEngines] = []
    for chosen in every:
        on_item = counter(on_progress, f"building for {chosen.target.name}", len(chosen.items))
        engines: list[BuildResult] = []
        for item in chosen.items:
            with naming(item.variant):
                engines.append(build(item, chosen.target, chosen.settings, store, machine))
            on_item(len(engines))
        built.append(TargetEngines(chosen.target, chosen.items, tuple(engines)))
        if on_result is not None:
            on_result(built[-1])
    converted = tuple(record for chosen in every for record in chosen.converted)
    return BuildProjectResult(tuple(built), converted, max((chosen.left_out for chosen in every), default=0))


def _own_store() -> EngineStore:
    """Return the user's store of engines; raises CoopexportError when its limit cannot be read."""
    return EngineStore(store_root(os.environ), store_limit_bytes(os.environ))
