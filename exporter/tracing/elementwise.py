"""What is computed element by element behind a tensor of a traced network, and whether a module is an activation.

Found by running it: operations of the user's own have no names that tell.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from exporter.tracing.layer_roles import readers, role_of, values_read
from exporter.tracing.operations import Kind, call
from exporter.tracing.trace import (
    TracedNetwork,
    calls_around,
    empty_like,
    eval_mode,
    makes_one_tensor,
    makes_tensors,
    node_name,
    shape_of,
    shapes_of,
)

# What none of these makes is element by element.
_OTHERS: tuple[Kind, ...] = (
    "convolution", "linear", "movement", "concatenate", "reduce", "pool", "average_pool", "resample", "pad",
)  # fmt: skip
_PROBES = 2
# An activation is looked at between minus and plus this, at so many points.
_REACH, _POINTS = 8.0, 65
# How far apart values of one function may be, of its range: kernels round otherwise at the end of a row.
_SAME = 1e-4


@dataclass(frozen=True)
class Computed:
    """The operation `end`, and with it all `nodes` in order that it needs of the tensor that `start` makes."""

    traced: TracedNetwork
    start: fx.Node
    nodes: tuple[fx.Node, ...]
    end: fx.Node


def computed_behind(traced: TracedNetwork, start: fx.Node) -> list[Computed]:
    """Return what is made of `start` and parameters alone, in tensors of its shape, where nothing else is read of it.

    Each in the order of the network, up to operations that are known not to go element by element.
    """
    found: set[fx.Node] = set()
    open_nodes = readers(traced, start)
    while open_nodes:
        node = open_nodes.pop()
        if node.op == "output" or node in found or not found.issuperset(set(values_read(traced, node)) - {start}):
            continue
        alike = makes_one_tensor(node) and shape_of(node) == shape_of(start)
        if alike and role_of(traced, node) not in _OTHERS:
            found.add(node)
            open_nodes += readers(traced, node)
    nodes = tuple(sorted(found, key=traced.places.__getitem__))
    made = [Computed(traced, start, _needed(nodes, node), node) for node in nodes]
    return [item for item in made if _all_passes(item)]


def _needed(nodes: tuple[fx.Node, ...], end: fx.Node) -> tuple[fx.Node, ...]:
    needed = {end}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return tuple(node for node in nodes if node in needed)


def _all_passes(computed: Computed) -> bool:
    """Tell whether nothing but the end is read of the start and of what is made of it before the end."""
    before = [node for node in (computed.start, *computed.nodes) if node is not computed.end]
    return all(user in computed.nodes for node in before for user in readers(computed.traced, node))


def value(computed: Computed, start: torch.Tensor) -> torch.Tensor:
    """Return what the end is, in eval mode, when the start is the tensor `start`, of its type and device.

    Parameters and buffers are drawn anew, always the same: what they are now, training changes. Raises whatever the
    operations raise.
    """
    traced = computed.traced
    generator = torch.Generator().manual_seed(0)
    values: dict[fx.Node, Any] = {computed.start: start}

    def given(node: fx.Node) -> Any:
        if node not in values:
            form_only = node in traced.fed and makes_one_tensor(node)  # else it would be among the nodes
            values[node] = zeros(node) if form_only else run(node)
        made = values[node]
        return made.clone() if isinstance(made, torch.Tensor) else made  # an operation may write into it

    def run(node: fx.Node) -> Any:
        if node.op == "get_attr":
            return _drawn(_attribute(traced.graph_module, str(node.target)), generator)
        if not makes_tensors(node):
            return shapes_of(node)
        module = copy.deepcopy(traced.module(node))
        for tensor in () if module is None else (*module.parameters(), *module.buffers()):
            tensor.copy_(_drawn(tensor, generator))
        return call(node, module, *fx.node.map_arg((node.args, node.kwargs), given))

    with torch.no_grad(), eval_mode(traced.network):
        for node in computed.nodes:
            values[node] = run(node)
    made: torch.Tensor = values[computed.end]
    return made


def zeros(node: fx.Node) -> torch.Tensor:
    """Return zeros in the form of the one tensor that `node` makes."""
    like = empty_like(node)
    return torch.zeros(shape_of(node), dtype=like.dtype, device=like.device)


def _attribute(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def _drawn(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor like `tensor` with other values, none of them near zero, where it holds real numbers."""
    if not tensor.is_floating_point():
        return tensor
    return (0.5 + torch.rand(tensor.shape, generator=generator)).to(tensor.device, tensor.dtype)


def is_elementwise(computed: Computed) -> bool:
    """Tell whether every element of the end depends on the same element of the start alone: others are changed.

    Raises whatever the operations raise.
    """
    generator = torch.Generator().manual_seed(0)
    like, shape = empty_like(computed.start), shape_of(computed.start)
    for _ in range(_PROBES):
        one, other = (3 * torch.randn(shape, generator=generator) for _ in range(2))
        same = torch.rand(shape, generator=generator) < 0.5
        before, after = (
            value(computed, given.to(like.device, like.dtype))[same.to(like.device)]
            for given in (one, torch.where(same, one, other))
        )
        if not torch.equal(torch.nan_to_num(before), torch.nan_to_num(after)):
            return False
    return True


def own_activation(traced: TracedNetwork, start: fx.Node) -> fx.Node | None:
    """Return the last operation of the module behind `start` when that is an activation of the user's own.

    It is one when the module is all that reads `start`, has no parameters, and is one function of a number that is
    no straight line, for all elements alike (h-sigmoid as relu6(x + 3) / 6). One operation that is known is none here.
    """
    following = readers(traced, start)
    if not following or following[0].op == "output":
        return None
    for call_of_module in new_calls(following[0], start):
        inside = traced.by_call[call_of_module]
        fed = {node for node in inside if node in traced.fed}
        known = len(fed) == 1 and role_of(traced, following[0]) not in ("opaque", "arithmetic")
        if known or not fed.issuperset(following) or any(_has_parameters(traced, node) for node in inside):
            continue
        for computed in computed_behind(traced, start):
            if set(computed.nodes) == fed and _is_activation(computed):
                return computed.end
    return None


def number_made(traced: TracedNetwork, start: fx.Node, end: fx.Node, number: float) -> float:
    """Return what an activation of the user's own, the operations behind `start` up to `end`, makes of `number`."""
    (computed,) = [item for item in computed_behind(traced, start) if item.end is end]
    return float(value(computed, zeros(start) + number).reshape(-1)[0])


def _has_parameters(traced: TracedNetwork, node: fx.Node) -> bool:
    module = traced.module(node)
    return node.op == "get_attr" or (module is not None and bool(module.state_dict()))


def new_calls(node: fx.Node, start: fx.Node) -> list[str]:
    """Return the calls of modules that `node` belongs to and `start` does not, the outermost first."""
    return [key for key in calls_around(node) if key not in calls_around(start)]


def module_ending_at(traced: TracedNetwork, node: fx.Node, start: fx.Node) -> str | None:
    """Return the path of a module that is called once, makes what `node` makes and does not contain `start`."""
    for call_of_module in reversed(new_calls(node, start)):
        path = calls_around(node)[call_of_module]
        inside = [item for item in traced.by_call[call_of_module] if item in traced.fed]
        leaving = [item for item in inside if not set(inside).issuperset(readers(traced, item))]
        if leaving == [node] and sum(other.split("@")[0] == path for other in traced.by_call) == 1:
            return path
    return None


def in_words(node: fx.Node, start: fx.Node, network: nn.Module) -> str:
    """Return what users know an operation behind `start` by: its module that `start` is not in, or its own name."""
    path = next((calls_around(node)[key] for key in reversed(new_calls(node, start))), None)
    return f"'{node_name(node)}'" if path is None else f"'{path}' ({type(network.get_submodule(path)).__name__})"


def _is_activation(computed: Computed) -> bool:
    """Tell whether the end is one function of a number, for every element, and not a straight line."""
    generator = torch.Generator().manual_seed(0)
    points = torch.linspace(-_REACH, _REACH, _POINTS)
    try:
        first, *others = (_at_points(computed, points, generator) for _ in range(_PROBES))
    except Exception:  # noqa: BLE001  operations of the user's own
        return False
    allowed = _SAME * float(first.max() - first.min())
    straight = first[0] + (first[-1] - first[0]) * torch.linspace(0, 1, _POINTS)
    alike = all(bool(((other - first).abs() <= allowed).all()) for other in others)
    return alike and bool(((first - straight).abs() > 10 * allowed).any())


def _at_points(computed: Computed, points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return what becomes of `points`, scattered among as many other numbers over a small tensor."""
    shape = (_POINTS // 4, *(8 for _ in shape_of(computed.start)[1:]))
    numbers = 3 * torch.randn(torch.Size(shape).numel(), generator=generator)
    places = torch.randperm(len(numbers), generator=generator)[:_POINTS]
    numbers[places] = points
    like = empty_like(computed.start)
    return value(computed, numbers.reshape(shape).to(like.device, like.dtype)).reshape(-1).cpu().float()[places]
