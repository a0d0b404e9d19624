"""Which layer a user means: exact paths, unambiguous tails of them, positions; and the nearest when none fits."""

from __future__ import annotations

import difflib
from collections.abc import Sequence, Set

from exporter.candidates import Layer, layer_name
from exporter.graph_index import GraphIndex
from jetson.errors import CoopexportError


def find_layer(layers: Sequence[Layer], wanted: str) -> Layer:
    """Return the layer that `wanted` names.

    `wanted` may be the module's whole path (`features.conv4_1`), a tail of it (`conv4_1`), an alias (the activation
    behind it), or the name of its tensor. Raises CoopexportError listing the nearest names otherwise.
    """
    by_name = {name: layer for layer in layers for name in (layer.name, *layer.aliases)}
    if wanted in by_name:
        return by_name[wanted]
    matches = {name: layer for name, layer in by_name.items() if name.endswith("." + wanted)}
    if not matches:
        matches = {layer.name: layer for layer in layers if wanted in (layer.tensor, layer.name.strip("/"))}
    if len({layer.name for layer in matches.values()}) == 1:
        return next(iter(matches.values()))
    if matches:
        raise CoopexportError(f'layer "{wanted}" is ambiguous; use one of {", ".join(sorted(matches))}')
    raise CoopexportError(f'there is no layer "{wanted}"; the nearest are {", ".join(nearest_names(layers, wanted))}')


def find_tensors(layers: Sequence[Layer], index: GraphIndex, wanted: str) -> tuple[str, ...]:
    """Return the tensors that cross where `wanted` says, in a graph that need not be an exported module.

    `wanted`: a layer (as `find_layer`: the cut lies behind its activation), a node (the cut lies behind the layer that
    it belongs to), a tensor (the cut lies exactly there), or several of these joined by "+". Raises CoopexportError
    listing the nearest names otherwise.
    """
    tensors = {name for names in index.makes for name in names} | set(index.inputs)
    if wanted in tensors or "+" not in wanted:
        return (_find_tensor(layers, index, wanted, tensors),)
    return tuple(dict.fromkeys(_find_tensor(layers, index, part.strip(), tensors) for part in wanted.split("+")))


def _find_tensor(layers: Sequence[Layer], index: GraphIndex, wanted: str, tensors: Set[str]) -> str:
    nodes = [node for node in index.model.graph.node if node.name == wanted and node.output[0] in tensors]
    try:
        return find_layer(layers, wanted).tensor
    except CoopexportError:
        if wanted in tensors:
            return wanted
        if not nodes:
            raise
    return find_layer(layers, layer_name(nodes[0])).tensor


def nearest_names(layers: Sequence[Layer], wanted: str, count: int = 3) -> list[str]:
    """Return the `count` layer names most like `wanted`, in their shortest unambiguous form."""
    short = [short_name(layers, layer.name) for layer in layers if layer.clean]
    ranked = difflib.get_close_matches(wanted, short, n=count, cutoff=0.0)
    return ranked or short[:count]


def short_name(layers: Sequence[Layer], name: str) -> str:
    """Return the shortest tail of `name` that no other layer shares and that says more than a number."""
    names = [other for layer in layers for other in (layer.name, *layer.aliases) if other != name]
    parts = name.split(".")
    for count in range(1, len(parts)):
        tail = ".".join(parts[-count:])
        if not tail.replace(".", "").isdigit() and not any(
            other == tail or other.endswith("." + tail) for other in names
        ):
            return tail
    return name
