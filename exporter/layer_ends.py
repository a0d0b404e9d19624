"""Where a layer ends: the batch norms and activations behind a convolution or linear that belong to it."""

from __future__ import annotations

from torch import fx, nn

from exporter.operations import kind_of
from exporter.tracing import TracedNetwork, shape_of

_LAYER_KINDS = ("convolution", "linear")
_OWN = ("batch_norm", "activation", "prelu")
_POOLS = ("pool", "average_pool")


def layer_nodes(traced: TracedNetwork) -> dict[str, list[fx.Node]]:
    """Return every convolution and linear by its module's path, with the nodes that call it, in order."""
    found: dict[str, list[fx.Node]] = {}
    for node in traced.nodes:
        if node.op == "call_module" and kind_of(node, traced.module(node)) in _LAYER_KINDS:
            found.setdefault(str(node.target), []).append(node)
    return found


def layer_chain(traced: TracedNetwork, start: fx.Node) -> tuple[fx.Node, ...]:
    """Return the nodes of the layer that begins at `start`, in order, `start` first.

    A layer is a convolution or linear with the batch norms and activations behind it, as long as each is the only
    reader of the one before; dropouts may stand between them, and pools may stand before them (convolution, pool,
    batch norm, activation). The last node returned is where a mask of meaning `channel` applies.
    """
    chain = [start]
    end = 1
    node = start
    while len(node.users) == 1:
        (node,) = node.users
        if node.op == "output" or node.all_input_nodes != [chain[-1]]:
            break
        kind = kind_of(node, traced.module(node))
        if kind not in ("identity", *_OWN, *(_POOLS if end == 1 else ())):
            break
        chain.append(node)
        if kind in _OWN:
            end = len(chain)
    return tuple(chain[:end])


def layer_end(traced: TracedNetwork, start: fx.Node) -> fx.Node:
    """Return the last node of the layer that begins at `start`."""
    return layer_chain(traced, start)[-1]


def channel_dimension(end: fx.Node, layer: nn.Module) -> int:
    """Return which dimension of a layer's output holds its channels: the last for a linear, else dimension 1."""
    return len(shape_of(end)) - 1 if isinstance(layer, nn.Linear) else 1


def output_layers(traced: TracedNetwork) -> tuple[str, ...]:
    """Return the layers whose channels are the network's outputs, but for batch norms, activations and movements."""
    return tuple(name for name, nodes in layer_nodes(traced).items() if any(_is_output(traced, node) for node in nodes))


def _is_output(traced: TracedNetwork, node: fx.Node) -> bool:
    for user in node.users:
        if user.op == "output":
            return True
        kind = kind_of(user, traced.module(user))
        passes_on = len(user.all_input_nodes) == 1 and kind not in (*_LAYER_KINDS, "opaque", "arithmetic")
        if passes_on and _is_output(traced, user):
            return True
    return False
