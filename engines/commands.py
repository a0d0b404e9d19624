"""Commands of this room: build, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.command_line import (
    MOST_TABLES,
    left_out,
    next_step,
    print_table,
    progress,
    project_option,
    relative,
    variant_option,
)

if TYPE_CHECKING:
    from engines.build import BuildItem
    from exporter.project import Project


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Bundle to build, e.g. conv4_1; default: all.")
@click.option("--target", "target_names", multiple=True, help="What to build for, e.g. rtx-ada; repeatable.")
def build(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    target_names: tuple[str, ...],
) -> None:
    """Build engines from the split bundles, each with an identity file."""
    from engines.build import build as build_item
    from engines.build import require_buildable
    from engines.targets import find_target
    from exporter.project import load_project
    from exporter.variant_choice import naming

    project = load_project(project_file)
    targets = [find_target(name) for name in target_names or project.settings.build.targets]
    for target in targets:
        require_buildable(target)
    items = items_of_project(project, variant_names, layer_names)
    count = len({item.variant for item in items})
    for target in targets:
        rows = []
        reused = 0
        total_bytes = 0
        with progress(f"building for {target.name}", len(items)) as on_progress:
            for done, item in enumerate(items, start=1):
                with naming(item.variant):
                    result = build_item(item, target)
                checked = "golden data agree" if result.identity.parity else "not run here"
                size = f"{result.identity.engine_bytes:,}"
                reused += result.reused
                total_bytes += result.identity.engine_bytes
                rows.append((relative(result.path), "reused" if result.reused else "built", size, checked))
                on_progress(done)
        if count > MOST_TABLES:
            click.echo(
                f"{target.name} ({target.description}): {len(items)} engines of {count} variants, {reused} reused, "
                f"{total_bytes:,} bytes; {sum(row[3] != 'not run here' for row in rows)} agree with their golden data"
            )
        else:
            title = f"Engines for {target.name} ({target.description})"
            print_table(title, ["engine", "", "bytes", "check"], rows, left=2)
        if any(row[3] == "not run here" for row in rows):
            click.echo(f"note: {result.identity.parity_reason}")
    next_step("coopexport bench")


def items_of_project(project: Project, variant_names: tuple[str, ...], layer_names: tuple[str, ...]) -> list[BuildItem]:
    """Return what there is to build: heads, tails and whole networks of the variants' bundles.

    Variants that were made for other cuts than `layer_names`, and not named alone, are left out.
    """
    from engines.build import item_of_whole, items_of_layer
    from exporter.bundle import read_whole, split_layers
    from exporter.currency import require_current
    from exporter.layer_names import find_layer
    from exporter.split import display_name
    from exporter.variant_choice import chosen_variants
    from exporter.variants import read_layer_graph
    from jetson.errors import CoopexportError

    items: list[BuildItem] = []
    others = 0
    for choice in chosen_variants(project, variant_names):
        variant, folder = choice.name, project.variant_folder(choice.name)
        if not (folder / "whole.json").is_file():
            if choice.named:
                raise CoopexportError(
                    f"variant {variant} has no bundles; make them with: coopexport split --layer NAME"
                )
            continue
        layers = read_layer_graph(folder, variant).layers
        names = [display_name(layers, find_layer(layers, name)) for name in layer_names] or split_layers(folder)
        if choice.cuts is not None and not choice.named:
            names = sorted(set(names).intersection(split_layers(folder)))
            if layer_names and not names:
                others += 1
                continue
        require_current(project, variant, read_whole(folder))
        items += [item for name in names for item in items_of_layer(folder, name)]
        items.append(item_of_whole(folder))
    left_out(others, layer_names)
    if not items:
        raise CoopexportError("there are no split bundles to build; make them with: coopexport split --layer NAME")
    return items


@click.command()
def doctor() -> None:
    """Say which backends, GPUs and packages are usable here, and why the others are not."""
    from engines.doctor import examine

    rows = [
        ("yes" if finding.usable else "no", finding.subject, finding.version, finding.detail)
        for finding in examine(Path.cwd())
    ]
    print_table("What is usable here", ["usable", "what", "version", "detail"], rows, left=4)
