"""The command `coopexport build`: from bundles to engines, in the precision that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import (
    MOST_TABLES,
    left_out,
    next_step,
    print_table,
    progress,
    project_option,
    relative,
    variant_option,
)

if TYPE_CHECKING:
    from engines.building.build import BuildResult
    from engines.building.build_items import BuildItem
    from engines.targets.target import Target
    from exporter.project.settings import Project
    from jetson.engines.build_settings import BuildSettings
    from jetson.store.store import EngineStore


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; what is None is as the project or the target says."""

    variant_names: tuple[str, ...] = ()
    layer_names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    precision: str | None = None
    batches: tuple[int, int, int] | None = None


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Bundle to build, e.g. conv4_1; default: all.")
@click.option("--target", "target_names", multiple=True, help="What to build for, e.g. rtx-ada; repeatable.")
@click.option(
    "--role",
    "roles",
    type=click.Choice(["head", "tail", "whole"]),
    multiple=True,
    help="Which parts; repeatable; default: all.",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Default: what the project file says, or fp32."
)
@click.option("--batch", help="Samples at a time: 4, or least-best-most such as 1-4-16; default: as the project says.")
@click.option("--device", help="Build on this device, user@host or user@host:port, over ssh.")
@click.option(
    "--order",
    "order_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what a device without ssh needs to build, a .zip file, instead of building.",
)
@click.option(
    "--result",
    "result_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take the engines out of what the device made of the order.",
)
@click.option("--no-store", is_flag=True, help="Build even what the store of engines holds, and keep nothing there.")
def build(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    target_names: tuple[str, ...],
    roles: tuple[str, ...],
    precision: str | None,
    batch: str | None,
    device: str | None,
    order_file: Path | None,
    result_file: Path | None,
    no_store: bool,
) -> None:
    """Build engines from the split bundles, each with an identity file."""
    from engines.targets.lookup import find_target
    from engines.targets.project_targets import own_targets
    from exporter.project.settings import load_project
    from jetson.errors import CoopexportError

    project = load_project(project_file)
    own = own_targets(project.settings.targets)
    targets = [find_target(name, own) for name in target_names or project.settings.build.targets]
    batches = None if batch is None else parse_batches(batch)
    wanted = Wanted(variant_names, layer_names, roles, precision, batches)
    if device is None and order_file is None and result_file is None:
        built = build_here(project, targets, wanted, None if no_store else _store())
        if any(_can_be_measured(result) for result in built):
            next_step("coopexport bench")
    else:
        if no_store:
            raise CoopexportError("--no-store is about building here; a device keeps its own store: leave it out")
        build_elsewhere(project, targets, wanted, device, order_file, result_file)


def build_here(
    project: Project, targets: Sequence[Target], wanted: Wanted, store: EngineStore | None
) -> list[BuildResult]:
    """Build for all of `targets` on this machine, print what came of it and return it.

    Raises CoopexportError when preflight refuses any of it, before the first is built, and at the first that a builder
    refuses; what was built before stays then.
    """
    from engines.building.build import build as build_item
    from engines.building.build import require_buildable
    from engines.building.prepared_file import require_preparable
    from engines.host.this_machine import this_machine
    from exporter.variants.choice import naming

    machine = this_machine()
    settings = [settings_for(project, target, wanted) for target in targets]
    for target in targets:
        require_buildable(target)
    items_of = [items_in_precision(project, wanted, chosen.precision) for chosen in settings]
    for target, chosen, items in zip(targets, settings, items_of, strict=True):
        if target.backend != "onnxruntime":  # it takes every standard operator
            require_preparable(items, target, chosen)
    built: list[BuildResult] = []
    for target, chosen, items in zip(targets, settings, items_of, strict=True):
        results = []
        with progress(f"building for {target.name}", len(items)) as on_progress:
            for done, item in enumerate(items, start=1):
                with naming(item.variant):
                    results.append(build_item(item, target, chosen, store, machine))
                on_progress(done)
        _print_results(target, items, results)
        built += results
    return built


def build_elsewhere(
    project: Project,
    targets: Sequence[Target],
    wanted: Wanted,
    device: str | None,
    order_file: Path | None,
    result_file: Path | None,
) -> None:
    """Have a device build, or write the order for it, or take its result; exactly one of the last three is given."""
    from calibration import device_builds as device_build
    from jetson.errors import CoopexportError

    if sum(item is not None for item in (device, order_file, result_file)) != 1:
        raise CoopexportError("give one of --device, --order and --result")
    target = device_build.require_device_target(targets)
    settings = settings_for(project, target, wanted)
    items = items_in_precision(project, wanted, settings.precision)
    if device is not None:
        device_build.build_over_ssh(items, target, settings, device)
    elif order_file is not None:
        device_build.write_order_file(items, target, settings, order_file)
    elif result_file is not None:
        device_build.take_result_file(items, target, settings, result_file)


def settings_for(project: Project, target: Target, wanted: Wanted) -> BuildSettings:
    """Return how to build for `target`; raises CoopexportError when that is impossible."""
    from engines.targets.capabilities import require_possible
    from engines.targets.project_targets import build_settings

    settings = build_settings(target, project.settings.build)
    if wanted.precision is not None:
        settings = settings._replace(precision=wanted.precision)
    if wanted.batches is not None:
        settings = settings._replace(batches=wanted.batches)
    require_possible(target, settings)
    return settings


def items_in_precision(project: Project, wanted: Wanted, precision: str) -> tuple[BuildItem, ...]:
    """Return what there is to build, lowered to `precision` first where that has not been done.

    Raises CoopexportError when a bundle is missing, or the precision costs more than it may.
    """
    from engines.building.build_items import FLOAT32
    from engines.building.project_items import ROLES, items_of_project

    roles = wanted.roles or ROLES
    if precision != FLOAT32:
        plain = items_of_project(project, wanted.variant_names, wanted.layer_names, FLOAT32, roles)
        left_out(len(plain.left_out), wanted.layer_names)
        _lower_what_is_missing(project, plain.items, precision)
    found = items_of_project(project, wanted.variant_names, wanted.layer_names, precision, roles)
    left_out(len(found.left_out), wanted.layer_names)
    return found.items


def _lower_what_is_missing(project: Project, items: Sequence[BuildItem], precision: str) -> None:
    """Write the forms in `precision` that do not exist or are stale, and print what they cost.

    Those that do exist stay, however they were made.
    """
    from calibration.precision.prepare import prepare_precision
    from calibration.precision.work import PrecisionOptions
    from calibration.splitting.context import open_context, open_data
    from coopexport.output import print_records
    from engines.building.build_items import WHOLE, item_of_whole, items_of_layer
    from exporter.variants.choice import naming
    from exporter.variants.layer_graphs import layer_graph
    from jetson.errors import CoopexportError

    missing: dict[str, list[str]] = {}
    for folder, variant, layer in dict.fromkeys((item.folder, item.variant, item.layer) for item in items):
        try:
            if layer == WHOLE:
                item_of_whole(folder, precision)
            else:
                items_of_layer(folder, layer, precision)
        except CoopexportError:
            missing.setdefault(variant, []).append(layer)
    if not missing:
        return
    data = open_data(project)
    records = []
    options = PrecisionOptions(precision)  # type: ignore[arg-type]  # click has checked it
    with progress(f"lowering to {precision}", sum(map(len, missing.values()))) as on_progress:
        done = 0
        for variant, layers in missing.items():
            with naming(variant):
                context = open_context(project, project.settings.split, layer_graph(project, variant), data)
                for layer in layers:
                    records.append(prepare_precision(context, layer, options)[1])
                    done += 1
                    on_progress(done)
    print_records(records)


def parse_batches(text: str) -> tuple[int, int, int]:
    """Return least, best and most samples of "4" or "1-4-16"; raises CoopexportError for anything else."""
    from jetson.errors import CoopexportError

    parts = text.split("-")
    if len(parts) in (1, 3) and all(part.isdecimal() for part in parts):
        least, best, most = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
        if 1 <= least <= best <= most:
            return least, best, most
    raise CoopexportError(f'--batch "{text}": give one number, 4, or least-best-most in that order, 1-4-16')


def _store() -> EngineStore:
    import os

    from jetson.store.location import store_limit_bytes, store_root
    from jetson.store.store import EngineStore

    return EngineStore(store_root(os.environ), store_limit_bytes(os.environ))


def _can_be_measured(result: BuildResult) -> bool:
    """Tell whether `coopexport bench` would measure this engine: float32, for one image, on what is here."""
    settings = result.identity.settings
    return bool(result.identity.parity) and settings.precision == "fp32" and settings.batches == (1, 1, 1)


_ORIGINS = {"kept": "kept", "stored": "from the store", "built": "built"}


def _print_results(target: Target, items: Sequence[BuildItem], results: Sequence[BuildResult]) -> None:
    from jetson.engines.identity import where_run

    unchecked = [result for result in results if not result.identity.parity]
    elsewhere = [result for result in results if result.identity.parity and _other_architecture(target, result)]
    count = len({item.variant for item in items})
    if count > MOST_TABLES:
        reused = sum(result.reused for result in results)
        total_bytes = sum(result.identity.engine_bytes for result in results)
        click.echo(
            f"{target.name} ({target.description}): {len(items)} engines of {count} variants, {reused} reused, "
            f"{total_bytes:,} bytes; {len(results) - len(unchecked)} agree with their golden data"
        )
    else:
        rows = [
            (
                relative(result.path),
                _ORIGINS[result.origin],
                f"{result.identity.engine_bytes:,}",
                _check(target, result),
            )
            for result in results
        ]
        print_table(f"Engines for {target.name} ({target.description})", ["engine", "", "bytes", "check"], rows, left=2)
    if unchecked:
        click.echo(f"note: {unchecked[0].identity.parity_reason}")
    if elsewhere:
        click.echo(
            f"note: golden data agree on {where_run(elsewhere[0].identity)}; not run on the device ("
            f"{target.architecture}, ONNX Runtime {target.onnxruntime})"
        )


def _check(target: Target, result: BuildResult) -> str:
    """Return what is known of an engine's golden data, and the architecture that says so where it is another one."""
    if not result.identity.parity:
        return "not run on the device" if target.kind == "jetson" else "not run here"
    elsewhere = _other_architecture(target, result)
    return "golden data agree" if elsewhere is None else f"golden data agree on {elsewhere}"


def _other_architecture(target: Target, result: BuildResult) -> str | None:
    from engines.building.evidence import other_architecture

    return other_architecture(target.architecture, result.identity.machine)
