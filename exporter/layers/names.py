"""Which layer a user means: exact paths, unambiguous tails of them, positions; and the nearest when none fits."""

from __future__ import annotations

import difflib
from collections.abc import Sequence, Set

from exporter.layers.candidates import Layer, behind_node
from exporter.onnx_graphs.index import GraphIndex
from exporter.onnx_graphs.nodes import consumers
from jetson.errors import InputError

_TENSOR = "tensor:"


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
        raise InputError(f'layer "{wanted}" is ambiguous', layer=wanted, fix=f"use one of {', '.join(sorted(matches))}")
    raise InputError(
        f'there is no layer "{wanted}"; the nearest are {", ".join(nearest_names(layers, wanted))}', layer=wanted
    )


def find_tensors(layers: Sequence[Layer], index: GraphIndex, wanted: str) -> tuple[str, ...]:
    """Return the tensors that cross where `wanted` says, in a graph that need not be an exported module.

    `wanted`: a layer (as `find_layer`: the cut lies behind its activation), a node (behind it, its batch norm and
    activation), a tensor (the cut lies exactly there), or several of these joined by "+". `tensor:NAME` is always the
    tensor. Raises CoopexportError listing the tensors when a name leads to several, and the nearest names when to none.
    """
    tensors = {name for names in index.makes for name in names} | set(index.inputs)
    whole = _places(layers, index, wanted, tensors)
    parts = [part.strip() for part in wanted.split("+")]
    if len(parts) == 1 or (whole and (_explicit(wanted, tensors) or not _all_lead(layers, index, parts, tensors))):
        return (_only_place(layers, index, wanted, tensors),)
    if whole:
        raise InputError(f'"{wanted}" is one name, and several joined by "+"', fix=f"write {_listed(index, whole)}")
    return tuple(dict.fromkeys(_only_place(layers, index, part, tensors) for part in parts))


def _only_place(layers: Sequence[Layer], index: GraphIndex, wanted: str, tensors: Set[str]) -> str:
    places = _places(layers, index, wanted, tensors)
    if len(places) > 1:
        raise InputError(f'"{wanted}" names {len(places)} places to cut', fix=f"use one of {_listed(index, places)}")
    return places[0] if places else find_layer(layers, wanted).tensor


def _places(layers: Sequence[Layer], index: GraphIndex, wanted: str, tensors: Set[str]) -> list[str]:
    """Return the tensors that a layer, a node or a tensor of exactly this name leads to, in the order of the graph."""
    explicit = _explicit(wanted, tensors)
    if explicit is not None:
        return [explicit]
    graph = index.model.graph
    found = {layer.tensor for layer in layers if wanted in (layer.name, *layer.aliases)}
    found |= {wanted} & tensors
    nodes = [node for node in graph.node if node.name == wanted]
    readers = consumers(graph) if nodes else {}
    found |= {behind_node(graph, node, readers) for node in nodes} & tensors
    return sorted(found, key=lambda name: index.makers.get(name, -1))


def _explicit(wanted: str, tensors: Set[str]) -> str | None:
    """Return the tensor that "tensor:NAME" means, if there is one and nothing is called that as a whole."""
    name = wanted.removeprefix(_TENSOR)
    return name if wanted.startswith(_TENSOR) and name in tensors and wanted not in tensors else None


def _all_lead(layers: Sequence[Layer], index: GraphIndex, parts: Sequence[str], tensors: Set[str]) -> bool:
    return all(_places(layers, index, part, tensors) for part in parts)


def _listed(index: GraphIndex, tensors: Sequence[str]) -> str:
    """Return how each of `tensors` can be asked for, and which node makes it."""
    nodes = index.model.graph.node
    made = {name: f" (behind {nodes[index.makers[name]].op_type})" for name in tensors if name in index.makers}
    return ", ".join(f'"{_TENSOR}{name}"{made.get(name, " (an input)")}' for name in tensors)


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


def display_name(layers: tuple[Layer, ...], layer: Layer) -> str:
    """Return the short name of `layer`, usable as a file name."""
    return short_name(layers, layer.name).strip("/").replace("/", "_")
