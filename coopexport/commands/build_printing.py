"""What the command build prints: engines that were built here or on a device, and what a device tells meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import MAX_TABLES, next_step, print_table, relative

if TYPE_CHECKING:
    from calibration.building.build_project import TargetEngines
    from calibration.building.device_builds import DeviceEngines, WrittenBuildRequest
    from engines.building.build import BuildResult
    from engines.targets.target import Target

_ORIGINS = {"reused": "reused", "stored": "from the store", "built": "built"}


def print_engines(built: TargetEngines) -> None:
    """Print what was built for one target, and what is known of its engines' golden data."""
    from jetson.engines.identity import where_run

    target, engines = built.target, built.engines
    unchecked = [engine for engine in engines if not engine.identity.parity]
    elsewhere = [engine for engine in engines if engine.identity.parity and _other_architecture(target, engine)]
    count = len({item.variant for item in built.items})
    if count > MAX_TABLES:
        reused = sum(engine.reused for engine in engines)
        total_bytes = sum(engine.identity.engine_bytes for engine in engines)
        click.echo(
            f"{target.name} ({target.description}): {len(engines)} engines of {count} variants, {reused} reused, "
            f"{total_bytes:,} bytes; {len(engines) - len(unchecked)} agree with their golden data"
        )
    else:
        rows = [
            (relative(one.path), _ORIGINS[one.origin], f"{one.identity.engine_bytes:,}", _parity_cell(target, one))
            for one in engines
        ]
        print_engine_table(target, rows)
    if unchecked:
        click.echo(f"note: {unchecked[0].identity.parity_reason}")
    if elsewhere:
        version = "" if target.onnxruntime is None else f", ONNX Runtime {target.onnxruntime}"
        click.echo(
            f"note: golden data agree on {where_run(elsewhere[0].identity)}; not run on the device ("
            f"{target.architecture}{version}): --device user@host checks them there"
        )


def print_engine_table(target: Target, rows: Sequence[Sequence[str]]) -> None:
    """Print engines: path, where each comes from, bytes, and what is known of its golden data."""
    print_table(f"Engines for {target.name} ({target.description})", ["engine", "", "bytes", "check"], rows, left=2)


def _parity_cell(target: Target, result: BuildResult) -> str:
    """Return what is known of an engine's golden data, and the architecture that says so where it is another one."""
    if not result.identity.parity:
        return "not run on the device" if target.kind == "jetson" else "not run here"
    elsewhere = _other_architecture(target, result)
    return "golden data agree" if elsewhere is None else f"golden data agree on {elsewhere}"


def _other_architecture(target: Target, result: BuildResult) -> str | None:
    from engines.building.evidence import other_architecture

    return other_architecture(target.architecture, result.identity.machine)


def print_event(event: dict[str, Any]) -> None:
    """Print what the agent on a device tells while it works."""
    from jetson.agent.progress import describe_event

    click.echo(describe_event(event), err=True)


def print_written(written: WrittenBuildRequest) -> None:
    """Print where the order lies, and what to do with it."""
    path = written.path
    click.echo(f"{relative(path)}: {written.count} graphs with golden data, {written.size_bytes:,} bytes")
    next_step(
        f"coopexport agent; copy coop-agent.pyz and {path.name} to the device; there: python3 coop-agent.pyz build "
        f"{path.name} --output result.zip; back here the same command with --result result.zip for --order {path.name}"
    )


def print_device_engines(found: DeviceEngines) -> None:
    """Print what became of each engine; raises CoopexportError when some are missing, with the first reason."""
    from jetson.errors import DeviceError

    rows = []
    for one in found.engines:
        if one.identity is None:
            rows.append((relative(one.path), "failed", "", one.failure or ""))
            continue
        agrees = "golden data agree" if one.identity.parity else one.identity.parity_reason or ""
        said = "; ".join((agrees, *one.notes))
        rows.append((relative(one.path), "reused" if one.reused else "built", f"{one.identity.engine_bytes:,}", said))
    print_engine_table(found.target, rows)
    if found.failed:
        raise DeviceError(
            f"{len(found.failed)} of {len(found.engines)} engines were not built; {found.failed[0].name}: "
            f"{found.failed[0].failure}"
        )
