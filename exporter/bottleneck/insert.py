"""A bottleneck inside a network: found where a tensor of the exported graph is made, put in without touching code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.bottleneck.design import REDUCTION, BottleneckDesign, check_design
from exporter.bottleneck.units import recovery_unit, reduction_unit
from exporter.tracing.trace import Inputs, TracedNetwork, copied, makes_one_tensor, shape_of, trace
from jetson.errors import StaleError, UnsupportedError

QUANTISER, RECOVERY, BOUND = "bottleneck_quantiser", "bottleneck_recovery", "bottleneck_bound"
_TAP = "bottleneck_tap"
_OWN = (REDUCTION, BOUND, QUANTISER, RECOVERY)
# What the exporter and torch.fx compute of the same tensor differs by rounding.
_RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Place:
    """Where a bottleneck goes: behind the operation `node` of the traced network.

    `shape`: of the feature there, without the batch dimension; `rectified`: it has no negative numbers.
    """

    layer: str
    node: str
    shape: tuple[int, ...]
    rectified: bool


@dataclass(frozen=True)
class BottleneckNetwork:
    """A network with a bottleneck; its modules are those of the network that it was put into.

    `head`: the names of modules, and of parameters of their own, that the device's side uses, the bottleneck aside;
    `tail`: those that the edge's side alone does.
    """

    graph_module: fx.GraphModule
    head: tuple[str, ...]
    tail: tuple[str, ...]

    def parameters_in(self, *places: str) -> int:
        """Return how many numbers the parameters hold that are called, or lie in modules called, so."""
        return sum(
            parameter.numel()
            for name, parameter in self.graph_module.named_parameters()
            if any(name == place or name.startswith(f"{place}.") for place in places)
        )

    @property
    def bound(self) -> nn.Module:
        """Return the activation whose output crosses."""
        return self.graph_module.get_submodule(BOUND)

    @property
    def recovery(self) -> nn.Module:
        """Return the unit that makes a feature again."""
        return self.graph_module.get_submodule(RECOVERY)


class Tap(nn.Module):
    """Keeps what passes through it."""

    passed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`."""
        self.passed = x
        return x


def find_place(network: nn.Module, inputs: Inputs, layer: str, feature: NDArray[Any]) -> Place:
    """Return where a traced network makes `feature`, what the tensor at `layer` holds for `inputs` (N x ...).

    Raises CoopexportError when the network cannot be traced, no operation makes that tensor, or it is not all that
    crosses there.
    """
    traced = trace(network, inputs)
    samples = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
    wanted = torch.from_numpy(np.ascontiguousarray(feature))
    recorder = _Comparison(traced, wanted)
    with torch.no_grad():
        recorder.run(samples[: len(wanted)].clone())
    for node in recorder.equal:
        if _is_all_that_crosses(traced, node):
            return Place(layer, node.name, tuple(wanted.shape[1:]), bool((wanted >= 0).all()))
    if not recorder.equal:
        raise UnsupportedError(
            f'layer "{layer}": torch.fx sees no operation that makes the tensor that crosses there',
            layer=layer,
            fix="cut at a layer nearby",
        )
    raise UnsupportedError(
        f'layer "{layer}": more than one tensor crosses there; a bottleneck needs a clean cut',
        layer=layer,
        fix="`coopexport layers` lists them",
    )


class _Comparison(fx.Interpreter):
    """Runs a traced network and notes the operations that make one tensor."""

    def __init__(self, traced: TracedNetwork, wanted: torch.Tensor) -> None:
        super().__init__(traced.graph_module)
        self.equal: list[fx.Node] = []
        self._wanted, self._alive = wanted, traced.alive
        self._tolerance = _RELATIVE_TOLERANCE * float(wanted.abs().max())

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if (
            isinstance(result, torch.Tensor)
            and n in self._alive
            and n.op != "placeholder"
            and result.shape == self._wanted.shape
            and float((result - self._wanted).abs().max()) <= self._tolerance
        ):
            self.equal.append(n)
        return result


def _is_all_that_crosses(traced: TracedNetwork, node: fx.Node) -> bool:
    """Tell whether no output that depends on `node` depends on the network's inputs in another way, too."""
    behind = _reached_from([node])
    around = _reached_from([item for item in traced.nodes if item.op == "placeholder"], without=node)
    # Both may come together in the list of outputs: early exits are the head's.
    met = [item for item in traced.nodes if item in behind and item in around and item in traced.alive]
    return all(item.op == "output" for item in met) and not behind.isdisjoint(traced.alive)


def tapped(network: nn.Module, inputs: Inputs, place: Place) -> tuple[nn.Module, Tap]:
    """Return a copy of `network` that keeps what it makes at `place`, and where that is kept; raises as `insert`."""
    traced = trace(copied(network), inputs)
    node = _node_at(traced, place)
    tap = Tap()
    traced.graph_module.add_submodule(_TAP, tap)
    users = list(node.users)
    with traced.graph_module.graph.inserting_after(node):
        made = traced.graph_module.graph.call_module(_TAP, (node,))
    for user in users:
        user.replace_input_with(node, made)
    traced.graph_module.recompile()
    return traced.graph_module.eval(), tap


def _node_at(traced: TracedNetwork, place: Place) -> fx.Node:
    node = next((item for item in traced.nodes if item.name == place.node), None)
    if node is None or not makes_one_tensor(node) or shape_of(node)[1:] != place.shape:
        raise StaleError(
            f'layer "{place.layer}": the network no longer makes what a bottleneck was put behind there',
            layer=place.layer,
            fix="run: coopexport bottleneck --replace",
        )
    return node


def _reached_from(nodes: Sequence[fx.Node], without: fx.Node | None = None) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        for user in waiting.pop().users:
            if user not in found and user is not without:
                found.add(user)
                waiting.append(user)
    return found


def insert(
    network: nn.Module, inputs: Inputs, place: Place, design: BottleneckDesign, quantiser: nn.Module | None = None
) -> BottleneckNetwork:
    """Return a copy of `network` with a new bottleneck at `place`, in eval mode; its own weights stay as they are.

    `quantiser`: what rounds between the two sides; without one nothing is rounded, as in what is exported, where the
    encoding at the cut does it. Weights of the bottleneck are drawn from PyTorch's global generator. Raises
    CoopexportError when the network cannot be traced, is not the one that `place` was found in, or its feature cannot
    be reduced so.
    """
    check_design(design, place.shape, place.layer)
    traced = trace(copied(network), inputs)
    module = traced.graph_module
    node = _node_at(traced, place)
    if any(name in _OWN for name, _ in module.named_children()):
        raise UnsupportedError(
            f'layer "{place.layer}": the network has a module "{REDUCTION}" already, and one bottleneck is enough',
            layer=place.layer,
            fix="name a variant without one",
        )
    units = {REDUCTION: reduction_unit(design, place.shape), BOUND: nn.Sigmoid()}
    if quantiser is not None:
        units[QUANTISER] = quantiser
    units[RECOVERY] = recovery_unit(design, place.shape, place.rectified)
    head, tail = _sides(traced, node)
    users = list(node.users)
    made = node
    for name, unit in units.items():
        module.add_submodule(name, unit)
        with module.graph.inserting_after(made):
            made = module.graph.call_module(name, (made,))
    for user in users:
        user.replace_input_with(node, made)
    module.graph.lint()
    module.recompile()
    return BottleneckNetwork(module.eval(), head, tail)


def _sides(traced: TracedNetwork, node: fx.Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the modules and parameters that the two sides of `node` call and read; what both use is the head's."""
    behind = _reached_from([node])
    used = [(str(item.target), item in behind) for item in traced.nodes if item.op in ("call_module", "get_attr")]
    head = dict.fromkeys(target for target, is_behind in used if not is_behind)
    tail = dict.fromkeys(target for target, is_behind in used if is_behind and target not in head)
    return tuple(head), tuple(tail)
