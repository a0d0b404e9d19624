"""The command build: from bundles to engines, here or on a device, in the precision that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.build_printing import print_device_engines, print_engines, print_event, print_written
from coopexport.output import left_out, next_step, print_records, progress_bar, project_option, variant_option

if TYPE_CHECKING:
    from engines.building.build import BuildResult


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
@click.option("--batch", help="Samples at a time: 4, or min-opt-max such as 1-4-16; default: as the project says.")
@click.option("--device", help="Build on this device, user@host or user@host:port, over ssh.")
@click.option(
    "--order",
    "request_file",
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
    roles: tuple[Any, ...],
    precision: Any,
    batch: str | None,
    device: str | None,
    request_file: Path | None,
    result_file: Path | None,
    no_store: bool,
) -> None:
    """Build engines from the split bundles, each with an identity file."""
    from calibration.building.build_project import build_project
    from calibration.building.choose_items import BuildProjectRequest
    from calibration.building.device_builds import build_over_ssh, install_build_result, write_build_request
    from exporter.project.settings import load_project
    from jetson.errors import InputError

    def say_left_out(count: int) -> None:
        left_out(count, layer_names)

    project = load_project(project_file)
    batches = None if batch is None else parse_batches(batch)
    request = BuildProjectRequest(
        variant_names, layer_names, target_names, roles, precision, batches, use_store=not no_store
    )
    if sum(item is not None for item in (device, request_file, result_file)) > 1:
        raise InputError("give one of --device, --order and --result")
    with progress_bar() as bar:
        print_each = bar.above(print_records)
        if device is not None:
            found = build_over_ssh(project, request, device, bar, bar.above(print_event), say_left_out, print_each)
            print_device_engines(found)
        elif request_file is not None:
            print_written(write_build_request(project, request, request_file, bar, say_left_out, print_each))
        elif result_file is not None:
            print_device_engines(install_build_result(project, request, result_file, bar, say_left_out, print_each))
        else:
            built = build_project(project, request, bar, bar.above(print_engines), say_left_out, print_each)
            if any(_can_be_measured(engine) for target in built.targets for engine in target.engines):
                next_step("coopexport bench")


def parse_batches(text: str) -> tuple[int, int, int]:
    """Return min, opt and max samples of "4" or "1-4-16"; raises CoopexportError for anything else."""
    from jetson.errors import InputError

    parts = text.split("-")
    if len(parts) in (1, 3) and all(part.isdecimal() for part in parts):
        min_batch, opt_batch, max_batch = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
        if 1 <= min_batch <= opt_batch <= max_batch:
            return min_batch, opt_batch, max_batch
    raise InputError(f'--batch "{text}": give one number, 4, or min-opt-max in that order, 1-4-16')


def _can_be_measured(result: BuildResult) -> bool:
    """Tell whether `coopexport bench` would measure this engine: float32, for one image, on what is here."""
    settings = result.identity.settings
    return bool(result.identity.parity) and settings.precision == "fp32" and settings.batches == (1, 1, 1)
