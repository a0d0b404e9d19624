"""The command `targets`: what engines can be built for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import project_here
from coopexport.output import print_table, project_option

if TYPE_CHECKING:
    from engines.targets.target import Kind, Target

_UNKNOWN = "not known"
_YES_NO = {True: "yes", False: "no", None: _UNKNOWN}
_LIBRARY = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


@click.command()
@project_option
@click.option("--kind", type=click.Choice(["generic", "jetson", "desktop", "datacentre"]), help="Only such machines.")
@click.argument("name", required=False)
def targets(project_file: Path | None, kind: Kind | None, name: str | None) -> None:
    """List what engines can be built for, a project's own targets first; with NAME, all that is known of one."""
    from engines.targets.list_targets import TargetsRequest, list_targets, show_target

    project = project_here(project_file)
    if name is not None:
        _print_one(show_target(project, name))
        return
    rows = [_row(target) for target in list_targets(project, TargetsRequest(kind)).targets]
    print_table("Targets", ["target", "what it is", "SM", "opset", "int8", "DLA cores"], rows, left=2)
    click.echo("a board without @ is that with its newest JetPack 6, or the newest that it has")


def _row(target: Target) -> tuple[str, ...]:
    opset = "any" if target.opset is None else str(target.opset)
    int8 = "" if target.fast_int8 is None else _YES_NO[target.fast_int8]
    cores = str(target.dla_cores) if target.dla_cores else ""
    return (target.name, target.description, target.compute_capability or "", opset, int8, cores)


def _print_one(target: Target) -> None:
    """Print all that is known of one target, one thing a line."""
    click.echo(f"{target.name}: {target.description}")
    facts = [*_machine(target), *_abilities(target), *_choices(target)]
    width = max(len(what) for what, _ in facts)
    for what, value in facts:
        click.echo(f"  {what:<{width}}  {value}")


def _machine(target: Target) -> Iterable[tuple[str, str]]:
    yield "kind", target.kind
    yield "built by", " ".join(filter(None, (_LIBRARY[target.backend], target.tensorrt or target.onnxruntime)))
    if target.providers:
        yield "providers", ", ".join(target.providers)
    if target.compute_capability is not None:
        yield "SM", target.compute_capability
    if target.kind == "jetson":
        yield "board", f"{target.board} ({target.chip})"
        half = "computes in float16" if target.half_arithmetic else "has no float16 arithmetic"
        yield "processor", f"{target.architecture}, {half}"
        last = "" if target.l4t == target.last_l4t else f" to {target.last_l4t}"
        yield "JetPack", f"{target.jetpack} (Jetson Linux {target.l4t}{last})"
        yield "CUDA", str(target.cuda)
        yield "Python", str(target.python)
        modes = ", ".join(f"{number} {mode}" for number, mode in enumerate(target.power_modes))
        yield "power modes", modes or f"{_UNKNOWN} here; on the device: nvpmodel -p --verbose"
    if target.memory_bytes is not None:
        yield "memory", f"{target.memory_bytes / 2**30:.0f} GiB"


def _abilities(target: Target) -> Iterable[tuple[str, str]]:
    yield "newest opset", "any that ONNX Runtime reads" if target.opset is None else str(target.opset)
    yield "gains by fp16", _YES_NO[target.fast_fp16]
    yield "gains by int8", _YES_NO[target.fast_int8]
    yield "symbols as", "uint8" if target.uint8 else "int32: this TensorRT has no uint8"
    if target.backend == "tensorrt":
        yield "DLA cores", str(target.dla_cores)


def _choices(target: Target) -> Iterable[tuple[str, str]]:
    """Yield what a project has chosen."""
    for key in ("precision", "batches", "workspace_bytes", "dla_core", "optimization_level", "power_mode"):
        value = getattr(target, key)
        if value is not None:
            yield key, str(list(value) if isinstance(value, tuple) else value)
    if target.dla_core is not None:
        yield "gpu_fallback", _YES_NO[target.gpu_fallback]
    yield "simplify", _YES_NO[target.simplify]
