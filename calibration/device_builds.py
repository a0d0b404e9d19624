"""Building where an engine is to run: on a device over ssh, or by hand with an order that goes there and its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from coopexport.output import next_step, print_table, progress, relative
from engines.building.build_items import BuildItem
from engines.building.prepared_file import prepare
from engines.device_builds.remote import build_on_device
from engines.device_builds.requests import OrderedEngine, PlacedEngine, order_engine, place_result, write_order
from engines.targets.target import Target
from exporter.variants.choice import naming
from jetson.agent.progress import describe_event
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError


def require_device_target(targets: Sequence[Target]) -> Target:
    """Return the one target that a device, an order or a result is for; raises CoopexportError for anything else."""
    if len(targets) != 1:
        names = ", ".join(target.name for target in targets)
        raise CoopexportError(
            f"a device builds for itself: name one target, such as --target orin-nano (given: {names})"
        )
    target = targets[0]
    if target.backend != "tensorrt":
        raise CoopexportError(
            f'engines for "{target.name}" are not built on a device but here, by {target.backend}: leave out --device, '
            "--order and --result"
        )
    return target


def build_over_ssh(items: Sequence[BuildItem], target: Target, settings: BuildSettings, device: str) -> None:
    """Build on `device` (user@host:port) and print what came of it.

    Raises CoopexportError when the device is not the target, the connection is lost, or anything could not be built;
    what was built is in place then.
    """
    ordered = _ordered(items, target, settings)
    _report(build_on_device(device, target, ordered, _tell), target)


def write_order_file(items: Sequence[BuildItem], target: Target, settings: BuildSettings, path: Path) -> None:
    """Write the order and say what to do with it; raises CoopexportError and OSError."""
    if path.suffix != ".zip":
        raise CoopexportError(f"--order {path}: an order is a .zip file; call it {path.name}.zip")
    ordered = _ordered(items, target, settings)
    write_order(path, target, ordered)
    click.echo(f"{relative(path)}: {len(ordered)} graphs with golden data, {path.stat().st_size:,} bytes")
    next_step(
        f"coopexport agent; copy coop-agent.pyz and {path.name} to the device; there: python3 coop-agent.pyz build "
        f"{path.name} --output result.zip; back here the same command with --result result.zip for --order {path.name}"
    )


def take_result_file(items: Sequence[BuildItem], target: Target, settings: BuildSettings, path: Path) -> None:
    """Put the engines of a result where they belong; raises CoopexportError when one is not what was ordered."""
    _report(place_result(path, target, _ordered(items, target, settings)), target)


def _ordered(items: Sequence[BuildItem], target: Target, settings: BuildSettings) -> list[OrderedEngine]:
    ordered = []
    with progress(f"preparing for {target.name}", len(items)) as on_progress:
        for done, item in enumerate(items, start=1):
            with naming(item.variant):
                ordered.append(order_engine(prepare(item, target, settings)))
            on_progress(done)
    return ordered


def _tell(event: dict[str, Any]) -> None:
    click.echo(describe_event(event), err=True)


def _report(placed: Sequence[PlacedEngine], target: Target) -> None:
    """Print what became of each engine; raises CoopexportError when some are missing, with the first reason."""
    rows = []
    for one in placed:
        if one.identity is None:
            rows.append((relative(one.path), "failed", "", one.failure or ""))
            continue
        agrees = "golden data agree" if one.identity.parity else one.identity.parity_reason or ""
        said = "; ".join((agrees, *one.notes))
        rows.append((relative(one.path), "reused" if one.reused else "built", f"{one.identity.engine_bytes:,}", said))
    print_table(f"Engines for {target.name} ({target.description})", ["engine", "", "bytes", "check"], rows, left=2)
    failed = [one for one in placed if one.identity is None]
    if failed:
        raise CoopexportError(
            f"{len(failed)} of {len(placed)} engines were not built; {failed[0].name}: {failed[0].failure}"
        )
