"""Gates: factors of one on every channel of every sample, whose gradients tell what the channel is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from exporter.tracing.layer_ends import channel_dimension, layer_end, layer_nodes
from exporter.tracing.trace import TracedNetwork, shape_of


@dataclass(frozen=True)
class GatedNetwork:
    """A network that takes gates after its own inputs, one for each call of a layer; it shares the layers' weights.

    `layers`: the layer of each gate; `shapes`: the gate's shape behind the number of samples; `by_sample`: that every
    place of a gate has samples in dimension 0, as they come in; where not, a gate serves only one sample, or all alike.
    """

    network: nn.Module
    layers: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    by_sample: bool


def gated_network(
    traced: TracedNetwork, dense: nn.Module, layers: Mapping[str, int], *, at_end: bool = True
) -> GatedNetwork:
    """Return `dense` with gates behind `layers` (name to number of channels).

    `traced`: the network that `dense` was shrunk from. `at_end`: behind batch norm and activation, where masks of
    meaning `channel` apply; otherwise behind the convolution itself.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(traced.graph_module.graph, copies)
    graph.output(output)
    names: list[str] = []
    shapes: list[tuple[int, ...]] = []
    by_sample = True
    last_input = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for name, nodes in layer_nodes(traced).items():
        if name not in layers:
            continue
        for node in nodes:
            place = layer_end(traced, node) if at_end else node
            dimension = channel_dimension(place, traced.network.get_submodule(name))
            shape = [1] * len(shape_of(place))
            by_sample &= shape_of(place)[0] == 1  # of the one sample that was traced
            shape[dimension] = layers[name]
            with graph.inserting_after(last_input):
                gate = last_input = graph.placeholder(f"gate_{len(names)}")
            _multiply_after(graph, copies[place], gate)
            names.append(name)
            shapes.append(tuple(shape[1:]))
    return GatedNetwork(fx.GraphModule(dense, graph), tuple(names), tuple(shapes), by_sample)


def gate_shapes(gated: GatedNetwork, samples: int) -> list[tuple[int, ...]]:
    """Return the shapes of all gates for a batch of `samples`: with one for each sample, where it can have its own."""
    return [(samples if gated.by_sample else 1, *shape) for shape in gated.shapes]


def _multiply_after(graph: fx.Graph, node: fx.Node, gate: fx.Node) -> None:
    with graph.inserting_after(node):
        product = graph.call_function(torch.mul, (node, gate))
    for user in [user for user in node.users if user is not product]:
        user.replace_input_with(node, product)
