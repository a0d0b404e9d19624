"""Building where an engine is to run: on a device over ssh, or by hand with a build request that goes there and its
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.building.choose_items import (
    BuildProjectRequest,
    ChosenItems,
    OnConverted,
    OnLeftOut,
    choose_items,
    find_targets,
    settings_for,
)
from engines.building.prepared_file import prepare
from engines.device_builds.remote import build_on_device
from engines.device_builds.requests import (
    InstalledEngine,
    PendingEngine,
    check_device_target,
    install_result,
    pending_engine,
    write_request,
)
from engines.targets.target import Target
from exporter.bundles.precision_file import PrecisionFile
from exporter.progress import OnProgress, counter, ignore, no_progress
from exporter.project.settings import Project
from exporter.variants.choice import naming
from jetson.errors import InputError


@dataclass(frozen=True)
class DeviceEngines:
    """What became of each engine that a device was to build for `target`.

    `converted`, `left_out`: as of `BuildProjectResult`.
    """

    target: Target
    engines: tuple[InstalledEngine, ...]
    converted: tuple[PrecisionFile, ...]
    left_out: int

    @property
    def failed(self) -> tuple[InstalledEngine, ...]:
        """Return those that the device could not build; the others are in place."""
        return tuple(engine for engine in self.engines if engine.identity is None)


@dataclass(frozen=True)
class WrittenBuildRequest:
    """An order of `count` graphs with their golden data; `converted`, `left_out`: as of `BuildProjectResult`."""

    path: Path
    count: int
    size_bytes: int
    converted: tuple[PrecisionFile, ...]
    left_out: int


def build_over_ssh(
    project: Project,
    request: BuildProjectRequest,
    device: str,
    on_progress: OnProgress = no_progress,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    on_left_out: OnLeftOut | None = None,
    on_converted: OnConverted | None = None,
) -> DeviceEngines:
    """Build on `device` (user@host:port); the request names the one target that it is.

    `on_event` gets what the agent tells while it works (`jetson.agent.progress`); other callbacks as of
    `build_project`. Raises CoopexportError when the device is not the target, or the connection is lost: engines that
    the device has finished are not built again. Those that it could not build are `failed` of the result.
    """
    chosen = _choose(project, request, on_progress, on_left_out, on_converted)
    engines = build_on_device(device, chosen.target, _pending(chosen, on_progress), on_event or ignore)
    return _device_engines(chosen, engines)


def write_build_request(
    project: Project,
    request: BuildProjectRequest,
    path: Path,
    on_progress: OnProgress = no_progress,
    on_left_out: OnLeftOut | None = None,
    on_converted: OnConverted | None = None,
) -> WrittenBuildRequest:
    """Write what a device without ssh needs to build into a .zip file; the request names the one target that it is.

    Callbacks as of `build_project`. Raises CoopexportError for another name of file, and what `build_project` raises
    before it builds; OSError.
    """
    chosen = _choose(project, request, on_progress, on_left_out, on_converted)
    if path.suffix != ".zip":
        raise InputError(f"--order {path}: an order is a .zip file", path=path, fix=f"call it {path.name}.zip")
    pending = _pending(chosen, on_progress)
    write_request(path, chosen.target, pending)
    return WrittenBuildRequest(path, len(pending), path.stat().st_size, chosen.converted, chosen.left_out)


def install_build_result(
    project: Project,
    request: BuildProjectRequest,
    path: Path,
    on_progress: OnProgress = no_progress,
    on_left_out: OnLeftOut | None = None,
    on_converted: OnConverted | None = None,
) -> DeviceEngines:
    """Put the engines that a device made of a build request where they belong; `request`: the one that was written.

    Callbacks as of `build_project`. Raises CoopexportError when the result is damaged, or an engine is not what was
    ordered; engines before it are installed then. Those that the device could not build are `failed` of the result.
    """
    chosen = _choose(project, request, on_progress, on_left_out, on_converted)
    return _device_engines(chosen, install_result(path, chosen.target, _pending(chosen, on_progress)))


def _choose(
    project: Project,
    request: BuildProjectRequest,
    on_progress: OnProgress,
    on_left_out: OnLeftOut | None,
    on_converted: OnConverted | None,
) -> ChosenItems:
    targets = find_targets(project, request)
    if not request.use_store:
        raise InputError("--no-store is about building here; a device keeps its own store: leave it out")
    target = single_device_target(targets)
    settings = settings_for(project, target, request)
    return choose_items(project, request, target, settings, on_progress, on_left_out or ignore, on_converted or ignore)


def single_device_target(targets: Sequence[Target]) -> Target:
    """Return the one target that a device, a build request or a result is for; raises InputError for none or more."""
    if len(targets) != 1:
        names = ", ".join(target.name for target in targets)
        raise InputError(f"a device builds for itself: name one target, such as --target orin-nano (given: {names})")
    target = targets[0]
    check_device_target(target)
    return target


def _pending(chosen: ChosenItems, on_progress: OnProgress) -> list[PendingEngine]:
    on_item = counter(on_progress, f"preparing for {chosen.target.name}", len(chosen.items))
    pending: list[PendingEngine] = []
    for item in chosen.items:
        with naming(item.variant):
            pending.append(pending_engine(prepare(item, chosen.target, chosen.settings)))
        on_item(len(pending))
    return pending


def _device_engines(chosen: ChosenItems, engines: Sequence[InstalledEngine]) -> DeviceEngines:
    return DeviceEngines(chosen.target, tuple(engines), chosen.converted, chosen.left_out)
