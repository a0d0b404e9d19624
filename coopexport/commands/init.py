"""The command init: a commented project file."""

from __future__ import annotations

from pathlib import Path

import click

from coopexport.output import next_step, wrote


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--factory", help='Function that builds the network, "package.module:function".')
@click.option("--checkpoint", help="File with the network's weights.")
@click.option("--masks", help="File with the masks of a pruned network.")
@click.option("--input-shape", help='Shape of one input, "3,224,224".')
def init(folder: Path, factory: str | None, checkpoint: str | None, masks: str | None, input_shape: str | None) -> None:
    """Write a commented project file, coopexport.toml."""
    from exporter.project.init import InitRequest, init_project

    shape = None if input_shape is None else _parse_shape(input_shape)
    result = init_project(InitRequest(folder, factory, checkpoint, masks, shape))
    wrote(result.path)
    for path in result.clashes:
        click.echo(f"note: {path} has the name of a package of coopexport, which hides it; rename it", err=True)
    next_step("edit it, then coopexport prune two-step, coopexport shrink (with masks) or coopexport layers")


def _parse_shape(text: str) -> tuple[int, ...]:
    from jetson.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f'--input-shape "{text}" is not like "3,224,224"') from None
