"""What there is to build in a project: heads, tails and whole networks of its variants' bundles."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from engines.building.build_items import FLOAT32, WHOLE, BuildItem, item_of_whole, items_of_layer
from exporter.bundles.bundle import read_split, read_whole, split_layers
from exporter.layers.names import display_name, find_layer
from exporter.project.settings import Project
from exporter.variants.choice import chosen_variants
from exporter.variants.layer_graphs import read_layer_graph
from exporter.variants.staleness import check_split, check_whole, measured_inputs
from jetson.errors import StaleError

ROLES = ("head", "tail", WHOLE)


@dataclass(frozen=True)
class ProjectItems:
    """What there is to build, and the variants that were left out because they were made for other cuts."""

    items: tuple[BuildItem, ...]
    left_out: tuple[str, ...] = ()


def items_of_project(
    project: Project,
    variant_names: tuple[str, ...] = (),
    layer_names: tuple[str, ...] = (),
    precision: str = FLOAT32,
    roles: Collection[str] = ROLES,
) -> ProjectItems:
    """Return what there is to build: of every variant's bundles the parts of `roles`, in one precision.

    Variants that were made for other cuts than `layer_names`, and not named alone, are left out. Raises
    CoopexportError when a bundle, or its form in that precision, is missing or stale, and when nothing is left.
    """
    items: list[BuildItem] = []
    left_out: list[str] = []
    measured = measured_inputs(project)
    for choice in chosen_variants(project, variant_names):
        variant, folder = choice.name, project.variant_folder(choice.name)
        if not (folder / "whole.json").is_file():
            if choice.named:
                raise StaleError(
                    f"variant {variant} has no bundles", fix="make them with: coopexport split --layer NAME"
                )
            continue
        graph = read_layer_graph(folder, variant)
        layers = graph.layers
        names = [display_name(layers, find_layer(layers, name)) for name in layer_names] or split_layers(folder)
        if choice.cuts is not None and not choice.named:
            names = sorted(set(names).intersection(split_layers(folder)))
            if layer_names and not names:
                left_out.append(variant)
                continue
        check_whole(project, graph, read_whole(folder), measured)
        if not {"head", "tail"}.isdisjoint(roles):
            for name in names:
                check_split(project, graph, read_split(folder, name), measured)
            items += [item for name in names for item in items_of_layer(folder, name, precision) if item.role in roles]
        if WHOLE in roles:
            items.append(item_of_whole(folder, precision))
    if not items:
        count = f"{len(left_out)} variant{'' if len(left_out) == 1 else 's'}"
        others = f" (left out: {count} not for {', '.join(layer_names)})" if left_out else ""
        raise StaleError(
            f"there are no split bundles to build{others}", fix="make them with: coopexport split --layer NAME"
        )
    return ProjectItems(tuple(items), tuple(left_out))
