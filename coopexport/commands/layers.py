"""The command layers: every layer, and where the network can be cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import next_step, print_table, project_option, variant_option

if TYPE_CHECKING:
    from exporter.cutting.layer_table import LayerTable
    from exporter.layers.table import CutRow

_COLUMNS = ("shape", "bytes", "MACs before the cut", "MACs after")


@click.command()
@project_option
@variant_option
@click.option("--onnx", "onnx_file", type=click.Path(path_type=Path), help="Any ONNX file instead of a project.")
@click.option(
    "--max-tensors", type=click.IntRange(min=2), help="List the cuts where up to this many tensors cross, too."
)
def layers(
    project_file: Path | None, variant_names: tuple[str, ...], onnx_file: Path | None, max_tensors: int | None
) -> None:
    """List every layer, its bytes and MACs, and where the network can be cut."""
    from exporter.cutting.layer_table import list_layers_of_file
    from exporter.project.settings import load_project
    from exporter.variants.list_layers import LayersRequest, list_layers
    from jetson.errors import InputError

    if onnx_file is not None:
        if project_file is not None or variant_names:
            raise InputError("--onnx was given with --project or --variant; an ONNX file has neither")
        _print_layers(list_layers_of_file(onnx_file, max_tensors), max_tensors)
        next_step(f"coopexport split --onnx {onnx_file} --layer NAME --output FOLDER")
        return
    result = list_layers(
        load_project(project_file),
        LayersRequest(variant_names, max_tensors),
        lambda table: _print_layers(table, max_tensors),
    )
    if result.left_out:
        count = len(result.left_out)
        click.echo(f"left out: {count} variants of the same layers as step 1; name them with --variant", err=True)
    next_step("coopexport split --layer NAME")


def _print_layers(table: LayerTable, max_tensors: int | None) -> None:
    """Print one graph's table of layers, and that of its cuts of several tensors where they were asked for."""
    rows = []
    for row in table.cuts:
        own = row.shapes if row.layer is None else (row.layer.shape,)
        size = row.size_bytes if row.layer is None else row.layer.feature_bytes
        end = "input" if row is table.cuts[0] else "output"
        name = end if row.layer is None else table.short_names[row.layer.tensor]
        kind = "the network's own" if row.layer is None else row.layer.kind
        rows.append((name, kind, *_numbers(own, size, row.macs_before, table.macs), _says(row)))
    print_table(f"Layers of {table.name}", ["layer", "operators", *_COLUMNS, "clean cut"], rows, left=3)
    if max_tensors is None:
        return
    rows = [
        (" + ".join(table.short_names.get(name, name) for name in row.tensors),
         *_numbers(row.shapes, row.size_bytes, row.macs_before, table.macs), "yes" if row.dominated else "")
        for row in table.multi_tensor_cuts
    ]  # fmt: skip
    title = f"Cuts of {table.name} where 2 to {max_tensors} tensors cross"
    print_table(title, ["tensors", *_COLUMNS, "dominated"], rows, left=2)


def _numbers(
    shapes: tuple[tuple[int, ...], ...], size_bytes: int | None, macs_before: int, total: int
) -> tuple[str, ...]:
    shape = " + ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
    size = "not fixed" if size_bytes is None else f"{size_bytes:,}"
    return shape, size, f"{macs_before:,}", f"{total - macs_before:,}"


def _says(row: CutRow) -> str:
    if row.layer is None:
        return "no cut needed, dominated" if row.dominated else "no cut needed"
    if row.clean:
        return "yes, dominated" if row.dominated else "yes"
    if row.tensors == (row.layer.tensor,):
        return "no: an output"
    return f"no: {len(row.tensors)} cross" + ("" if row.size_bytes is None else f", {row.size_bytes:,} bytes")
