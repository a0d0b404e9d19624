"""What is built of a project: targets, settings, and graphs, which are converted where that is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from calibration.precision.conversion_job import PrecisionOptions
from calibration.precision.prepare import prepare_precision
from calibration.splitting.context import open_context, open_data
from engines.building.build_items import FLOAT32, WHOLE, BuildItem, item_of_whole, items_of_layer
from engines.building.project_items import ROLES, ProjectItems, items_of_project
from engines.targets.capabilities import check_supported
from engines.targets.lookup import find_target
from engines.targets.project_targets import build_settings, own_targets
from engines.targets.target import Target
from exporter.bundles.precision_file import PrecisionFile
from exporter.progress import OnProgress, counter, ignore, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import Project
from exporter.variants.choice import naming
from exporter.variants.layer_graphs import layer_graph
from jetson.engines.build_settings import BuildSettings
from jetson.errors import DamagedFileError, InputError, StaleError

# How many variants are not for the layers that are asked for; what had to be converted to another precision.
OnLeftOut: TypeAlias = Callable[[int], None]
OnConverted: TypeAlias = Callable[[tuple[PrecisionFile, ...]], None]


@dataclass(frozen=True)
class BuildProjectRequest:
    """What to build of a project, and how.

    `variants`: names or patterns, none for all; `layers`: of bundles, none for all; `roles`: likewise. `targets`: by
    name, such as "rtx-ada"; none for those of `[build]`. `batches`: min, opt and max samples at a time; where it or
    `precision` is None, the target or `[build]` says. `use_store`: take from the store of engines what it holds, and
    put there what is built.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    roles: tuple[Literal["head", "tail", "whole"], ...] = ()
    precision: Literal["fp32", "fp16", "int8"] | None = None
    batches: tuple[int, int, int] | None = None
    use_store: bool = True


@dataclass(frozen=True)
class ChosenItems:
    """What is built for one target, and with which settings.

    `converted`: what had to be converted to the target's precision first. `left_out`: how many variants are not for the
    layers that are asked for.
    """

    target: Target
    settings: BuildSettings
    items: tuple[BuildItem, ...]
    converted: tuple[PrecisionFile, ...]
    left_out: int


def find_targets(project: Project, request: BuildProjectRequest) -> list[Target]:
    """Return the targets to build for; raises CoopexportError when one is unknown."""
    own = own_targets(project.settings.targets)
    return [find_target(name, own) for name in request.targets or project.settings.build.targets]


def settings_for(project: Project, target: Target, request: BuildProjectRequest) -> BuildSettings:
    """Return how to build for `target`; raises CoopexportError when that is impossible."""
    given = {"precision": request.precision, "batches": request.batches}
    wanted = overridden(project.settings.build, given)
    settings = build_settings(target, project.settings.build)
    if request.precision is not None:
        settings = settings._replace(precision=wanted.precision)
    if request.batches is not None:
        settings = settings._replace(batches=wanted.batches)
    check_supported(target, settings)
    return settings


def choose_items(
    project: Project,
    request: BuildProjectRequest,
    target: Target,
    settings: BuildSettings,
    on_progress: OnProgress = no_progress,
    on_left_out: OnLeftOut = ignore,
    on_converted: OnConverted = ignore,
) -> ChosenItems:
    """Return what there is to build for `target`, converted to the precision of `settings` where that is missing.

    `on_left_out` gets how many variants are not for the layers that are asked for; `on_converted` what had to be
    converted. Raises CoopexportError when a bundle is missing, or the precision costs more than it may.
    """
    converted: tuple[PrecisionFile, ...] = ()
    if settings.precision != FLOAT32:
        plain = _items(project, request, FLOAT32, on_left_out)
        converted = _convert_missing(project, plain.items, settings.precision, on_progress)
        if converted:
            on_converted(converted)
    found = _items(project, request, settings.precision, on_left_out)
    return ChosenItems(target, settings, found.items, converted, len(found.left_out))


def _items(project: Project, request: BuildProjectRequest, precision: str, on_left_out: OnLeftOut) -> ProjectItems:
    unknown = [role for role in request.roles if role not in ROLES]
    if unknown:
        raise InputError(f'role "{unknown[0]}" is unknown', fix=f"use {', '.join(ROLES)}")
    found = items_of_project(project, request.variants, request.layers, precision, request.roles or ROLES)
    on_left_out(len(found.left_out))
    return found


def _convert_missing(
    project: Project, items: Sequence[BuildItem], precision: str, on_progress: OnProgress
) -> tuple[PrecisionFile, ...]:
    """Write the forms in `precision` that do not exist or are stale, and return their records.

    Those that do exist stay, however they were made.
    """
    missing: dict[str, list[str]] = {}
    for folder, variant, layer in dict.fromkeys((item.folder, item.variant, item.layer) for item in items):
        try:
            if layer == WHOLE:
                item_of_whole(folder, precision)
            else:
                items_of_layer(folder, layer, precision)
        except (StaleError, DamagedFileError):
            missing.setdefault(variant, []).append(layer)
    if not missing:
        return ()
    data = open_data(project)
    records: list[PrecisionFile] = []
    options = PrecisionOptions(precision)  # type: ignore[arg-type]  # settings_for has checked it
    on_network = counter(on_progress, f"converting to {precision}", sum(map(len, missing.values())))
    for variant, layers in missing.items():
        with naming(variant):
            context = open_context(project, project.settings.split, layer_graph(project, variant), data)
            for layer in layers:
                records.append(prepare_precision(context, layer, options)[1])
                on_network(len(records))
    return tuple(records)
