"""Which variants are cut, and after which layers: what calibrate, search and split begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.cutting.split import CutPosition
from exporter.layers.candidates import Layer
from exporter.layers.names import find_layer
from exporter.project.settings import Project
from exporter.variants.choice import ChosenVariant, chosen_variants, naming
from exporter.variants.layer_graphs import LayerGraph, layer_graph
from jetson.errors import InputError


@dataclass(frozen=True)
class CutSelection:
    """A variant and the layers to cut it after, in the network's order."""

    graph: LayerGraph
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class ChosenCuts:
    """What to cut where. `left_out`: how many variants that were asked for are not for any of the layers."""

    selections: tuple[CutSelection, ...]
    left_out: int


def check_where(layers: Sequence[str], all_layers: bool) -> None:
    """Raise InputError unless either `layers` or all of them are asked for, and not both."""
    if layers and all_layers:
        raise InputError("--layer and --all were both given", fix="use one of them")
    if not layers and not all_layers:
        raise InputError(
            "say where to cut: --layer NAME (repeatable) or --all", fix="`coopexport layers` lists the layers"
        )


def choose_cuts(
    project: Project,
    variants: Sequence[str],
    layers: Sequence[str],
    all_layers: bool,
    at: CutPosition,
    with_bottlenecks: bool = True,
) -> ChosenCuts:
    """Return which variants to cut where, exporting those whose graph is missing or stale.

    `variants`: names or patterns, none for all; the other arguments as of `choose_layers`. Variants that are not for
    any of the layers are left out; so are those with a bottleneck, whose encoding was trained, where they are not
    wanted. Raises CoopexportError when a variant or a layer does not exist, a variant is stale, or none is left.
    """
    chosen = chosen_variants(project, variants)
    found = []
    for choice in chosen:
        if choice.only_there and not with_bottlenecks:
            continue
        with naming(choice.name):
            graph = layer_graph(project, choice.name)
            found.append(CutSelection(graph, choose_layers(project, graph, layers, all_layers, at, choice)))
    selections = tuple(item for item in found if item.layers)
    if not selections:
        raise InputError(
            f"none of {len(chosen)} variants can be cut there",
            fix="name one alone with --variant, and a --layer, or change split.candidates",
        )
    return ChosenCuts(selections, len(chosen) - len(selections))


def choose_layers(
    project: Project,
    graph: LayerGraph,
    names: Sequence[str],
    all_layers: bool,
    at: CutPosition,
    choice: ChosenVariant | None = None,
) -> tuple[Layer, ...]:
    """Return the layers that `names` or the project mean, in the network's order, each once.

    Without candidates of the project `all_layers` means every clean cut; before the activation (`at`) those that have
    one. A variant that was made for some cuts (`choice`) is cut only there, unless the user names it and a layer; one
    with a bottleneck only there.
    Raises CoopexportError when a layer does not exist.
    """
    if choice is not None and choice.only_there:
        own = {find_layer(graph.layers, name).name for name in choice.cuts or ()}
        asked = set() if all_layers or not choice.named else {find_layer(graph.layers, name).name for name in names}
        return tuple(layer for layer in graph.layers if layer.name in (own if all_layers else own & asked))
    wanted = list(names)
    if all_layers:
        wanted += project.settings.split.candidates or [
            layer.name
            for layer in graph.layers
            if layer.clean
            and layer.macs_before > 0
            and (at == "post-activation" or layer.tensor_before_activation is not None)
        ]
    chosen = {find_layer(graph.layers, name).name for name in wanted}
    if choice is not None and choice.cuts is not None:
        allowed = (*choice.cuts, *(names if choice.named else ()))
        chosen &= {find_layer(graph.layers, name).name for name in allowed}
    return tuple(layer for layer in graph.layers if layer.name in chosen)
