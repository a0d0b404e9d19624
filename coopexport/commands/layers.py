"""The command layers: every layer, and where the network can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import next_step, print_table, project_option, variant_option

if TYPE_CHECKING:
    from exporter.layers.candidates import Layer
    from exporter.layers.table import CutRow


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
    from exporter.project.settings import load_project
    from exporter.variants.choice import chosen_variants, naming
    from exporter.variants.layer_graphs import GRAPH_FILE, layer_graph, pruning_records
    from jetson.errors import CoopexportError

    if onnx_file is not None:
        if project_file is not None or variant_names:
            raise CoopexportError("--onnx was given with --project or --variant; an ONNX file has neither")
        _print_layers(onnx_file.name, onnx_file, None, max_tensors)
        next_step(f"coopexport split --onnx {onnx_file} --layer NAME --output FOLDER")
        return
    project = load_project(project_file)
    chosen = [choice.name for choice in chosen_variants(project, variant_names)]
    alike = {record.variant for record in pruning_records(project) if record.step != "step1"}
    for variant in chosen if variant_names else [name for name in chosen if name not in alike]:
        with naming(variant):
            graph = layer_graph(project, variant)
        _print_layers(variant, graph.folder / GRAPH_FILE, graph.layers, max_tensors)
    if alike and not variant_names:
        click.echo(f"left out: {len(alike)} variants of the same layers as step 1; name them with --variant", err=True)
    next_step("coopexport split --layer NAME")


def _print_layers(title: str, path: Path, layers: Sequence[Layer] | None, max_tensors: int | None) -> None:
    """Print the table of one graph; `layers`: those of a project's export, which have PyTorch's names."""
    from exporter.cutting.onnx_file import read_graph
    from exporter.layers.candidates import layers_of
    from exporter.layers.names import short_name
    from exporter.layers.table import cut_rows, multi_tensor_rows
    from exporter.onnx_graphs.index import index_graph
    from exporter.onnx_graphs.tensor_types import tensor_types

    model = read_graph(path)
    index, types = index_graph(model), tensor_types(model, path.parent)
    layers = layers_of(index, types) if layers is None else layers
    names = {layer.tensor: short_name(layers, layer.name) for layer in layers}
    table = cut_rows(index, types, layers)
    total = table[-1].macs_before
    rows = []
    for row in table:
        own = row.shapes if row.layer is None else (row.layer.shape,)
        size = row.size_bytes if row.layer is None else row.layer.feature_bytes
        name = ("input" if row is table[0] else "output") if row.layer is None else names[row.layer.tensor]
        kind = "the network's own" if row.layer is None else row.layer.kind
        rows.append((name, kind, *_numbers(own, size, row.macs_before, total), _says(row)))
    print_table(f"Layers of {title}", ["layer", "operators", *_COLUMNS, "clean cut"], rows, left=3)
    if max_tensors is None:
        return
    rows = [
        (" + ".join(names.get(name, name) for name in row.tensors),
         *_numbers(row.shapes, row.size_bytes, row.macs_before, total), "yes" if row.dominated else "")
        for row in multi_tensor_rows(index, types, max_tensors)
    ]  # fmt: skip
    title = f"Cuts of {title} where 2 to {max_tensors} tensors cross"
    print_table(title, ["tensors", *_COLUMNS, "dominated"], rows, left=2)


_COLUMNS = ("shape", "bytes", "MACs before the cut", "MACs after")


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
