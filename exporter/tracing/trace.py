"""A network as a graph of operations, traced with torch.fx, with the shape of every tensor in it.

Takes milliseconds: the network is read symbolically, then run once on one sample for the shapes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from exporter.tracing.operations import asks_for_form_only, is_batch_norm, module_kind, writes_into_its_input
from jetson.errors import InputError, UnsupportedError, one_line

# Where a node keeps what it makes, a torch.Size for every tensor; and, where that is one tensor, one like it, empty.
_SHAPES, _LIKE = "shapes", "like"
Inputs: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class TracedNetwork:
    """A network's graph; its modules are the network's own. Every node knows the shape of what it makes."""

    network: nn.Module
    graph_module: fx.GraphModule

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """Return the operations in execution order."""
        return tuple(self.graph_module.graph.nodes)

    @cached_property
    def fed(self) -> frozenset[fx.Node]:
        """Return the nodes whose values depend on the network's inputs: neither parameters nor sizes."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            from_inputs = node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes)
            if from_inputs and not asks_for_form_only(node) and node.op != "output" and makes_tensors(node):
                found.add(node)
        return frozenset(found)

    @cached_property
    def alive(self) -> frozenset[fx.Node]:
        """Return the nodes on which the outputs depend, and those that write into their inputs."""
        found: set[fx.Node] = set()
        for node in reversed(self.nodes):
            if node.op == "output" or node in found or writes_into_its_input(node, self.module(node)):
                found.update((node, *node.all_input_nodes))
        return frozenset(found)

    @cached_property
    def places(self) -> dict[fx.Node, int]:
        """Return the place of every operation in the order of execution."""
        return {node: place for place, node in enumerate(self.nodes)}

    @cached_property
    def by_call(self) -> dict[str, list[fx.Node]]:
        """Return the nodes of every call of a module, those of modules in it included; see `calls_around`."""
        found: dict[str, list[fx.Node]] = {}
        for node in self.nodes:
            for call_of_module in calls_around(node):
                found.setdefault(call_of_module, []).append(node)
        return found

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.graph_module.named_modules(remove_duplicate=False))

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that `node` calls, if it calls one."""
        return self._modules[str(node.target)] if node.op == "call_module" else None


class _ShapeRecorder(fx.Interpreter):
    """Runs the graph and writes down the shapes of all that it makes."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta[_SHAPES] = fx.node.map_aggregate(
            result, lambda item: item.shape if isinstance(item, torch.Tensor) else item
        )
        if isinstance(result, torch.Tensor):
            n.meta[_LIKE] = torch.empty(0, dtype=result.dtype, device=result.device)
        return result


class _Tracer(fx.Tracer):
    """Takes a subclass of a known module, and any batch norm, for one operation, where torch.fx would look inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or module_kind(m) != "opaque" or is_batch_norm(m)


def trace(network: nn.Module, example_inputs: Inputs) -> TracedNetwork:
    """Trace `network` and run it once, in eval mode, on the first sample of `example_inputs`, each N x ...

    Raises CoopexportError when the network cannot be traced or does not take the inputs.
    """
    inputs = tuple(tensor[:1] for tensor in as_tuple(example_inputs))
    try:
        graph_module = fx.GraphModule(network, _Tracer().trace(network))
        _read_what_was_written(graph_module)
    except Exception as error:  # noqa: BLE001  fx raises whatever the forward raises
        raise UnsupportedError(
            f"the network cannot be traced ({one_line(error)[:200]})",
            fix="conditions, loops and numbers that depend on inputs or their sizes must leave forward()",
        ) from None
    with eval_mode(network, graph_module), torch.no_grad():
        try:
            outputs = _ShapeRecorder(graph_module).run(*(tensor.clone() for tensor in inputs))
        except Exception as error:  # noqa: BLE001  the network is the user's code
            run_network(network, inputs)  # for its clear message on a wrong shape
            raise UnsupportedError(
                f"the network cannot be traced ({one_line(error)[:200]})",
                fix="leave arguments with defaults out of forward()",
            ) from None
    if not any(module.training for module in network.modules()):  # there other branches of forward() were read
        _check_same_outputs(network, inputs, outputs)
    return TracedNetwork(network, graph_module)


def _check_same_outputs(network: nn.Module, inputs: tuple[torch.Tensor, ...], traced: Any) -> None:
    """Raise UnsupportedError when torch.fx has read something else than `network`, which it does not notice itself.

    A network that gives other outputs every time is left to those who refuse it by name.
    """
    made = run_network(network, inputs)
    if _are_same(made, tuple(output_tensors(traced))) or not _are_same(made, run_network(network, inputs)):
        return
    raise UnsupportedError(
        "the network cannot be traced: what torch.fx reads of forward() gives other outputs than forward() itself; it "
        "misreads isinstance(x, torch.Tensor), x += y where x has a second name, and what forward() counts or "
        "remembers: leave them out of it"
    )


def _are_same(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(
        one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, other in zip(some, others, strict=True)
    )


def _read_what_was_written(graph_module: fx.GraphModule) -> None:
    """Let what reads a tensor after an operation wrote into it read that operation, which is the same tensor.

    `self.bn(x)`, then `x.relu_()`, then a layer that reads x: the layer is behind the activation.
    """
    nodes = list(graph_module.graph.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    for node in nodes:
        module = graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None
        target = node.args[0] if node.args else None
        if isinstance(target, fx.Node) and writes_into_its_input(node, module):
            for user in [user for user in target.users if places[user] > places[node]]:
                user.replace_input_with(target, node)
    graph_module.recompile()


def as_tuple(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """Return the network's inputs as a tuple, be it one tensor or several; raises CoopexportError for anything else."""
    tensors = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    if not tensors or not all(isinstance(item, torch.Tensor) and item.ndim and len(item) for item in tensors):
        raise InputError(
            "the example inputs are not tensors of samples, N x ...",
            fix="give one tensor, or a tuple of one for each input",
        )
    return tensors


def copied(network: nn.Module) -> nn.Module:
    """Return a copy of `network`; raises CoopexportError when it cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception as error:  # noqa: BLE001  a module may refuse for reasons of its own
        raise UnsupportedError(
            f"the network cannot be copied ({one_line(error)[:160]})",
            fix="save its weights, and load them into a new one",
        ) from None


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Keep a network that is being trained as it is: a forward in training mode would move its running statistics."""
    training = [module for network in networks for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def run_network(network: nn.Module, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """Return the network's output tensors for `inputs`, in order, without gradients.

    Raises CoopexportError naming the inputs' shapes when the network does not take them or returns anything
    but tensors, or lists, tuples and dictionaries of them.
    """
    tensors = as_tuple(inputs)
    run = network.forward if isinstance(network, fx.GraphModule) else network  # called, a traced one prints what fails
    try:
        with torch.no_grad():
            outputs = run(*(tensor.clone() for tensor in tensors))  # it may write into them
    except torch.OutOfMemoryError:  # that is not the network's fault
        raise
    except Exception as error:  # noqa: BLE001  the network is the user's code
        shapes = " and ".join(str(tuple(tensor.shape[1:])) for tensor in tensors)
        if any(tensor.dtype == torch.float64 for tensor in tensors):
            raise UnsupportedError(
                f"the network does not run in float64, in which equality is proven ({one_line(error)[:160]})",
                fix="leave .float(), .half() and torch.float32 out of forward()",
            ) from None
        raise InputError(
            f"the network does not take inputs of shape {shapes} ({one_line(error)[:160]})",
            fix="check model.input_shape and preprocessing, and that its weights are float32",
        ) from None
    return tuple(tensor.detach() for tensor in output_tensors(outputs))


def output_tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a network returns; raises CoopexportError naming any other type.

    Complex and sparse tensors are others: a comparison would leave half of them out.
    """
    if isinstance(outputs, torch.Tensor):
        if outputs.is_complex() or outputs.layout != torch.strided:
            kind = outputs.dtype if outputs.is_complex() else outputs.layout
            raise UnsupportedError(
                f"the network returns a tensor of {kind}", fix="return dense tensors of real numbers"
            )
        yield outputs
    elif isinstance(outputs, Mapping):
        yield from (tensor for value in outputs.values() for tensor in output_tensors(value))
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        yield from (tensor for value in outputs for tensor in output_tensors(value))
    else:
        raise UnsupportedError(
            f"the network returns {type(outputs).__name__}; only tensors, and lists, tuples and dictionaries of them, "
            "can be taken"
        )


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of the one tensor that `node` makes; raises CoopexportError when it makes anything else."""
    if not makes_one_tensor(node):
        raise UnsupportedError(f"'{node_name(node)}' makes something else than one tensor where one is needed")
    return tuple(node.meta[_SHAPES])


def shapes_of(node: fx.Node) -> Any:
    """Return what `node` makes, with a torch.Size in the place of every tensor."""
    return node.meta[_SHAPES]


def empty_like(node: fx.Node) -> torch.Tensor:
    """Return an empty tensor of the type, and on the device, of the one tensor that `node` makes."""
    like = node.meta[_LIKE]
    assert isinstance(like, torch.Tensor)
    return like


def makes_tensors(node: fx.Node) -> bool:
    """Tell whether `node` makes a tensor, or several, rather than sizes."""
    return _holds_a_tensor(node.meta[_SHAPES])


def _holds_a_tensor(made: Any) -> bool:
    if isinstance(made, torch.Size):
        return True
    items = made.values() if isinstance(made, dict) else made if isinstance(made, (tuple, list)) else ()
    return any(_holds_a_tensor(item) for item in items)


def makes_one_tensor(node: fx.Node) -> bool:
    """Tell whether `node` makes one tensor."""
    return isinstance(node.meta[_SHAPES], torch.Size)


def calls_around(node: fx.Node) -> dict[str, str]:
    """Return the calls of modules that `node` is part of, the outermost first, each with the module's path.

    A call is known by the path, and from the second one on by a number behind it.
    """
    return {key: path for key, (path, _) in node.meta.get("nn_module_stack", {}).items()}


def node_name(node: fx.Node) -> str:
    """Return what users know an operation by: its module's path, or the name of the function."""
    return str(node.target) if node.op == "call_module" else node.name
