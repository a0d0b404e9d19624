"""The command init: a commented project file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import next_step, wrote

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--factory", help='Function that builds the network, "package.module:function".')
@click.option("--checkpoint", help="File with the network's weights.")
@click.option("--masks", help="File with the masks of a pruned network.")
@click.option("--input-shape", help='Shape of one input, "3,224,224".')
def init(folder: Path, factory: str | None, checkpoint: str | None, masks: str | None, input_shape: str | None) -> None:
    """Write a commented project file, coopexport.toml."""
    from exporter.project.settings import PROJECT_FILE
    from exporter.project.template import project_text
    from exporter.project.user_code import find_clashes
    from jetson.errors import CoopexportError
    from jetson.files.atomic_files import write_file

    path = folder / PROJECT_FILE
    if path.exists():
        raise CoopexportError(f"{path} exists already; edit it, or delete it first")
    shape = None
    if input_shape is not None:
        try:
            shape = [int(part) for part in input_shape.split(",")]
        except ValueError:
            raise CoopexportError(f'--input-shape "{input_shape}" is not like "3,224,224"') from None
    given = {"factory": factory, "checkpoint": checkpoint, "masks": masks, "input_shape": shape}
    values = {key: value for key, value in given.items() if value is not None}
    write_file(str(path), project_text(values).encode())
    wrote(path)
    for name in find_clashes(folder):
        click.echo(
            f"note: {folder / name} has the name of a package of coopexport, which hides it; rename it", err=True
        )
    next_step("edit it, then coopexport prune two-step, coopexport shrink (with masks) or coopexport layers")
