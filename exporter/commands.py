"""Commands of this room: init, shrink, layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.command_line import next_step, print_table, project_option, variant_option, wrote

if TYPE_CHECKING:
    from exporter.project import Project
    from exporter.shrink import LayerSize, Shrunk


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
@click.option("--masks", "masks_file", type=click.Path(path_type=Path), help="Mask file, instead of the project's.")
def shrink(project_file: Path | None, masks_file: Path | None) -> None:
    """Turn the masked network into a smaller dense one, proven equal."""
    from exporter.project import load_project

    project = load_project(project_file)
    sizes, kept, path = shrink_project(project, masks_file)
    print_sizes(sizes)
    for layer, count, reason in kept:
        click.echo(f"{layer}: {count} masked channels stay: {reason}")
    wrote(path)
    next_step("coopexport layers, or coopexport split --layer NAME")


def shrink_project(
    project: Project, masks_file: Path | None
) -> tuple[tuple[LayerSize, ...], list[tuple[str, int, str]], Path]:
    """Shrink a project's network and write plan and weights; return sizes, channels that stay, and the plan's path."""
    import torch
    from safetensors.torch import save

    from exporter.checkpoint import load_network
    from exporter.masks import read_masks
    from exporter.shrink import shrink as shrink_network
    from exporter.shrink_plan import PLAN_FILE, WEIGHTS_FILE, ShrinkFile, write_shrink_plan
    from exporter.variants import PRUNED, example_inputs
    from jetson.atomic_files import sha256_of_bytes, sha256_of_file
    from jetson.errors import CoopexportError

    model = project.settings.model
    if masks_file is None and model.masks is None:
        raise CoopexportError(
            "there are no masks to shrink by: set model.masks in the project file, or pass --masks FILE"
        )
    path = masks_file if masks_file is not None else project.path(model.masks or "")
    checkpoint = project.path(model.pruned_checkpoint or model.checkpoint)
    masks = read_masks(path)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    shrunk: Shrunk = shrink_network(network, masks, torch.from_numpy(example_inputs(project)))
    # Cloned: a module that has two names shares its memory, which safetensors refuses.
    weights = save({name: value.clone().contiguous() for name, value in shrunk.network.state_dict().items()})
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        checkpoint_sha256=sha256_of_file(str(checkpoint)),
        masks_sha256=sha256_of_file(str(path)),
        masks_file=None if masks_file is None else str(masks_file.resolve()),
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    folder = project.variant_folder(PRUNED)
    write_shrink_plan(folder, file, weights)
    kept = [(item.layer, len(item.channels), item.reason) for item in shrunk.plan.kept_although_masked]
    return shrunk.sizes, kept, folder / PLAN_FILE


def print_sizes(sizes: tuple[LayerSize, ...]) -> None:
    """Print channels, parameters and MACs of every layer before and after."""
    rows = [
        (
            size.name,
            f"{size.channels_before} -> {size.channels_after}",
            f"{size.parameters_before:,} -> {size.parameters_after:,}",
            f"{size.macs_before:,} -> {size.macs_after:,}",
        )
        for size in sizes
    ]
    before = [sum(size.parameters_before for size in sizes), sum(size.macs_before for size in sizes)]
    after = [sum(size.parameters_after for size in sizes), sum(size.macs_after for size in sizes)]
    totals = [f"{a:,} -> {b:,} ({a / b:.2f}x less)" for a, b in zip(before, after, strict=True)]
    rows.append(("total", "", totals[0], totals[1]))
    print_table("Shrunk", ["layer", "channels", "parameters", "MACs"], rows)


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
