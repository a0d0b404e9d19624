"""What an operation of a traced network is to the layer before it: a batch norm, an activation, or something else."""

from __future__ import annotations

import torch
from torch import fx
from torch.nn import functional

from exporter.tracing.operations import Kind, is_batch_norm, kind_of, module_kind
from exporter.tracing.trace import TracedNetwork

_FUNCTIONS: dict[object, Kind] = {
    functional.batch_norm: "batch_norm",
    torch.batch_norm: "batch_norm",
    functional.prelu: "prelu",
    torch.prelu: "prelu",
}
# Values stay what they are, whatever becomes of their type and place.
_SAME_VALUES = frozenset(("to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda"))


def role_of(traced: TracedNetwork, node: fx.Node) -> Kind:
    """Return what `node` is to a layer: its kind, also where it is not known well enough to be shrunk.

    That is a batch norm with a forward of its own, or one that is called as a function; a module with hooks, or with
    parametrised weights; values of another type.
    """
    module = traced.module(node)
    if module is not None:
        return "batch_norm" if is_batch_norm(module) else module_kind(module, with_hooks=True)
    if node.op == "call_method" and node.target in _SAME_VALUES:
        return "identity"
    if node.target is getattr and node.args[1:] == ("data",):
        return "identity"
    return _FUNCTIONS.get(node.target) or kind_of(node, None)


def readers(traced: TracedNetwork, node: fx.Node) -> list[fx.Node]:
    """Return the operations that read values of `node`: not what asks for its size, nor what nobody needs."""
    return [user for user in node.users if user in traced.alive and (user.op == "output" or user in traced.fed)]


def first_operand(node: fx.Node) -> object:
    """Return what an operation works on: its first argument, by position or by name."""
    return node.args[0] if node.args else node.kwargs.get("input")


def values_read(traced: TracedNetwork, node: fx.Node) -> list[fx.Node]:
    """Return what `node` reads of what depends on the network's inputs."""
    return [item for item in node.all_input_nodes if item in traced.fed]
