"""Where a layer ends: the batch norms and activations behind a convolution or linear that belong to it."""

from __future__ import annotations

from torch import fx, nn

from exporter.tracing.elementwise import own_activation
from exporter.tracing.layer_roles import first_operand, readers, role_of, values_read
from exporter.tracing.operations import kind_of
from exporter.tracing.trace import TracedNetwork, shape_of

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
    batch norm, activation). Of an activation of the user's own the last operation is in the result. The last node
    returned is where a mask of meaning `channel` applies.
    """
    chain, end = followed_chain(traced, start)
    return chain[:end]


def followed_chain(traced: TracedNetwork, start: fx.Node) -> tuple[tuple[fx.Node, ...], int]:
    """Return the nodes of `layer_chain`, with the pools and dropouts behind its last one, and how many are its own."""
    chain = [start]
    end = 1
    while True:
        own = own_activation(traced, chain[-1])
        node = _next(traced, chain[-1], with_pools=end == 1) if own is None else own
        if node is None:
            return tuple(chain), end
        chain.append(node)
        if own is not None or role_of(traced, node) in _OWN:
            end = len(chain)


def _next(traced: TracedNetwork, last: fx.Node, *, with_pools: bool) -> fx.Node | None:
    """Return the operation behind `last` that can belong to its layer, if that is all that reads it."""
    following = readers(traced, last)
    if len(following) != 1 or following[0].op == "output" or first_operand(following[0]) is not last:
        return None
    role = role_of(traced, following[0])
    alone = role == "batch_norm" or values_read(traced, following[0]) == [last]
    return following[0] if alone and role in ("identity", *_OWN, *(_POOLS if with_pools else ())) else None


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
        alone = values_read(traced, user) == [node]
        passes_on = alone and role_of(traced, user) not in (*_LAYER_KINDS, "opaque", "arithmetic")
        if passes_on and _is_output(traced, user):
            return True
    return False
