"""Run a traced network on something else than tensors: on what is known about them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import fx

from exporter.tracing.operations import call, kind_of, writes_into_its_input
from exporter.tracing.trace import TracedNetwork


class Shaped(Protocol):
    """What stands for a tensor on the walk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the size of every dimension."""
        ...


# Given a node and its arguments, in which every tensor is a Shaped, returns what stands for its result.
Rule = Callable[[fx.Node, tuple[Any, ...], dict[str, Any]], Any]
_SIZE_METHODS = frozenset({"size", "dim", "ndimension", "numel", "nelement"})
_SIZE_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device"})


def walk(traced: TracedNetwork, shaped: type, start: Callable[[fx.Node], Any], rule: Rule) -> dict[fx.Node, Any]:
    """Return what every node makes when tensors are instances of `shaped`.

    `start` gives what stands for an input or a parameter; `rule` for the result of an operation. Sizes are
    answered from `shape`, and what is computed from them is computed for real. An operation that writes into its
    input is seen by all that read that input later.
    """
    values: dict[fx.Node, Any] = {}
    for node in traced.nodes:
        if node.op in ("placeholder", "get_attr"):
            values[node] = start(node)
            continue
        arguments, options = fx.node.map_arg((node.args, node.kwargs), lambda item: values[item])
        if node.op == "output":
            values[node] = arguments[0]
            continue
        if not any(True for _ in instances(shaped, (arguments, options))):
            values[node] = call(node, traced.module(node), arguments, options)
            continue
        asked = _size_of(node, arguments, options)
        if asked is not None:
            values[node] = asked
            continue
        values[node] = rule(node, arguments, options)
        if node.args and isinstance(node.args[0], fx.Node) and writes_into_its_input(node, traced.module(node)):
            _write(values, node.args[0], values[node], traced)
    return values


def instances(shaped: type, value: Any) -> Iterator[Any]:
    """Yield every instance of `shaped` in nested arguments."""
    if isinstance(value, shaped):
        yield value
    elif isinstance(value, (tuple, list)):
        yield from (found for item in value for found in instances(shaped, item))
    elif isinstance(value, dict):
        yield from (found for item in value.values() for found in instances(shaped, item))


def _size_of(node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the answer to a question about sizes, or None when `node` asks no such question."""
    if node.op == "call_method" and node.target in _SIZE_METHODS:
        return getattr(torch.empty(arguments[0].shape, device="meta"), str(node.target))(*arguments[1:], **options)
    if node.op == "call_function" and node.target is getattr and arguments[1] in _SIZE_ATTRIBUTES:
        like = torch.empty(arguments[0].shape, device="meta")
        return torch.device("cpu") if arguments[1] == "device" else getattr(like, arguments[1])
    if node.op == "call_function" and node.target is len:
        return arguments[0].shape[0] if hasattr(arguments[0], "shape") else len(arguments[0])
    if node.op == "call_function" and node.target is operator.getitem and isinstance(arguments[0], (tuple, list, dict)):
        return arguments[0][arguments[1]]
    return None


def _write(values: dict[fx.Node, Any], target: fx.Node, value: Any, traced: TracedNetwork) -> None:
    """Let `target`, and what it is another name of, be `value` from here on."""
    values[target] = value
    passes_on = target.op in ("call_module", "call_function", "call_method") and (
        kind_of(target, traced.module(target)) == "identity" and target.target not in ("clone", torch.clone)
    )
    if passes_on and target.args and isinstance(target.args[0], fx.Node):
        _write(values, target.args[0], value, traced)
    if target.op != "placeholder" and writes_into_its_input(target, traced.module(target)):
        first = target.args[0]
        assert isinstance(first, fx.Node)
        _write(values, first, value, traced)
