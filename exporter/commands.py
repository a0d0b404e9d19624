"""Commands of this room: init, layers."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.command_line import next_step, print_table, project_option, variant_option, wrote


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--factory", help='Function that builds the network, "package.module:function".')
@click.option("--checkpoint", help="File with the network's weights.")
@click.option("--masks", help="File with the masks of a pruned network.")
@click.option("--input-shape", help='Shape of one input, "3,224,224".')
def init(folder: Path, factory: str | None, checkpoint: str | None, masks: str | None, input_shape: str | None) -> None:
    """Write a commented project file, coopexport.toml."""
    from exporter.project import PROJECT_FILE
    from exporter.project_template import project_text
    from exporter.user_code import find_clashes
    from jetson.atomic_files import write_file
    from jetson.errors import CoopexportError

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
    write_file(str(path), project_text(**values).encode())
    wrote(path)
    for name in find_clashes(folder):
        click.echo(
            f"note: {folder / name} has the name of a package of coopexport, which hides it; rename it", err=True
        )
    next_step("edit it, then coopexport shrink (with masks) or coopexport layers")


@click.command()
@project_option
@variant_option
def layers(project_file: Path | None, variant_names: tuple[str, ...]) -> None:
    """List every layer, its bytes and MACs, and where the network can be cut."""
    from exporter.layer_names import short_name
    from exporter.project import load_project
    from exporter.variants import layer_graph, variants

    project = load_project(project_file)
    for variant in variant_names or variants(project):
        graph = layer_graph(project, variant)
        total = max(layer.macs_before for layer in graph.layers)
        rows = [
            (
                short_name(graph.layers, layer.name),
                layer.kind,
                "x".join(map(str, layer.shape)),
                f"{layer.feature_bytes:,}",
                f"{layer.macs_before:,}",
                f"{total - layer.macs_before:,}",
                ("yes, dominated" if layer.dominated else "yes") if layer.clean else "no",
            )
            for layer in graph.layers
        ]
        columns = ["layer", "operators", "shape", "float32 bytes", "MACs before the cut", "MACs after", "clean cut"]
        print_table(f"Layers of {variant}", columns, rows, left=3)
    next_step("coopexport split --layer NAME")
