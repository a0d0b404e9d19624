"""What each channel holds on its way through a chain network: something live, or a known constant.

Traced with torch.fx: milliseconds, and independent of any input's values.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from jetson.errors import CoopexportError, one_line

Kind = Literal["convolution", "linear", "batch_norm", "activation", "identity", "max_pool", "average_pool", "flatten"]

_MODULE_KINDS: tuple[tuple[tuple[type[nn.Module], ...], Kind], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "convolution"),
    ((nn.Linear,), "linear"),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "batch_norm"),
    (
        (
            nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Sigmoid, nn.Tanh,
            nn.ELU, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Mish, nn.SELU,
        ),
        "activation",
    ),
    ((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity), "identity"),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool2d), "max_pool"),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), "average_pool"),
    ((nn.Flatten,), "flatten"),
)  # fmt: skip
_FUNCTION_KINDS: dict[Any, Kind] = {
    torch.relu: "activation", functional.relu: "activation", functional.relu6: "activation",
    functional.leaky_relu: "activation", functional.silu: "activation", functional.hardswish: "activation",
    functional.gelu: "activation", torch.sigmoid: "activation", torch.tanh: "activation", functional.elu: "activation",
    functional.dropout: "identity", functional.max_pool2d: "max_pool", functional.adaptive_max_pool2d: "max_pool",
    functional.avg_pool2d: "average_pool", functional.adaptive_avg_pool2d: "average_pool", torch.flatten: "flatten",
}  # fmt: skip
_METHOD_KINDS: dict[str, Kind] = {
    "relu": "activation", "sigmoid": "activation", "tanh": "activation", "flatten": "flatten",
    "view": "flatten", "reshape": "flatten", "contiguous": "identity",
}  # fmt: skip
# Nodes that only ask for a size, as in x.view(x.size(0), -1).
_SIZE_METHODS = frozenset({"size"})


@dataclass(frozen=True)
class Step:
    """One operation of the chain; `name` is the module's path, or the node's name for a function."""

    node: fx.Node
    kind: Kind
    name: str
    output_shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Size of dimension 1 of the output."""
        return self.output_shape[1]


@dataclass(frozen=True)
class Chain:
    """A traced network whose operations follow one another without branches."""

    graph_module: fx.GraphModule
    steps: tuple[Step, ...]

    def module(self, step: Step) -> nn.Module:
        """Return the module that `step` calls."""
        return self.graph_module.get_submodule(step.name)

    def layer_end(self, index: int) -> int:
        """Return the index of the last step of the layer that begins at `index`.

        A layer is a convolution or linear together with the batch norms and activations right behind it.
        """
        end = index
        while end + 1 < len(self.steps) and self.steps[end + 1].kind in ("batch_norm", "activation"):
            end += 1
        return end


def trace_chain(network: nn.Module, example_inputs: torch.Tensor) -> Chain:
    """Trace `network`, which must be a chain of operations that this module knows.

    `example_inputs`: N x ..., as the network takes it. Raises CoopexportError naming the layer when the network
    cannot be traced, branches, uses a module twice, or holds an operation whose effect on channels is
    not known here, and when it does not accept the inputs.
    """
    try:
        graph_module = fx.symbolic_trace(network)
    except Exception as error:  # noqa: BLE001  fx raises whatever the forward raises
        raise CoopexportError(
            f"the network cannot be traced ({one_line(error)[:200]}); control flow that depends on data "
            "must leave forward()"
        ) from None
    run_network(network, example_inputs)  # for its clear message on a wrong shape
    with torch.no_grad():
        ShapeProp(graph_module).propagate(example_inputs)
    _refuse_shared_modules(graph_module)
    steps = []
    previous = None
    for node in graph_module.graph.nodes:
        if node.op in ("placeholder", "output"):
            _check_chain(node, previous)
            previous = node if node.op == "placeholder" else previous
            continue
        if _only_asks_for_a_size(node):
            continue
        _check_chain(node, previous)
        steps.append(Step(node, *_kind_and_name(graph_module, node), tuple(node.meta["tensor_meta"].shape)))
        previous = node
    return Chain(graph_module, tuple(steps))


def run_network(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the network's output for `inputs` without gradients.

    Raises CoopexportError naming the input's shape when the network does not take it or returns anything
    but one tensor.
    """
    try:
        with torch.no_grad():
            outputs = network(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise CoopexportError(
            f"the network does not take inputs of shape {tuple(inputs.shape[1:])} ({one_line(error)[:160]}); check "
            "model.input_shape and preprocessing"
        ) from None
    if not isinstance(outputs, torch.Tensor):
        raise CoopexportError(
            f"the network returns {type(outputs).__name__}; this version takes networks with one output tensor"
        )
    return outputs


def carry_constants(
    chain: Chain, step: Step, constants: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what `step` makes of channels that hold known constants.

    `constants`: float64 value per channel; `known`: whether the channel is that constant everywhere.
    Returns both for the output's channels (features, after flatten).
    """
    if step.kind in ("batch_norm", "activation"):
        shaped = torch.from_numpy(constants).reshape(1, -1, *[1] * (len(step.output_shape) - 2))
        outputs = _evaluate_in_double(chain, step, shaped).numpy().reshape(-1)
        # Beyond batch norm and activation an unknown channel stays unknown; its number means nothing.
        return np.where(known, outputs, 0.0), known
    if step.kind == "average_pool":
        # With padding that counts, the border of a non-zero constant is no longer that constant.
        return constants, known & ((constants == 0) | ~_pads(chain, step))
    if step.kind == "flatten":
        repeats = step.channels // len(constants)
        return np.repeat(constants, repeats), np.repeat(known, repeats)
    return constants, known


def _evaluate_in_double(chain: Chain, step: Step, values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if step.node.op == "call_module":
            module = copy.deepcopy(chain.module(step)).double().eval()
            return module(values.clone())  # type: ignore[no-any-return]
        arguments = (values.clone(), *step.node.args[1:])
        if step.node.op == "call_method":
            return getattr(arguments[0], str(step.node.target))(*arguments[1:], **step.node.kwargs)  # type: ignore[no-any-return]
        assert callable(step.node.target)
        return step.node.target(*arguments, **step.node.kwargs)  # type: ignore[no-any-return]


def _pads(chain: Chain, step: Step) -> bool:
    if step.node.op == "call_module":
        padding = getattr(chain.module(step), "padding", 0)
    else:
        padding = step.node.kwargs.get("padding", step.node.args[3] if len(step.node.args) > 3 else 0)
    return padding not in (0, (0, 0), (0,), (0, 0, 0))


def _check_chain(node: fx.Node, previous: fx.Node | None) -> None:
    """Refuse a node that does not take exactly the previous node's output."""
    inputs = [item for item in node.all_input_nodes if not _only_asks_for_a_size(item)]
    expected = [] if previous is None else [previous]
    if inputs != expected:
        where = str(node.target) if node.op == "call_module" else node.name
        raise CoopexportError(
            f"cannot shrink at '{where}': it does not simply follow '{previous}'; this version shrinks chain "
            "networks (no branches, no sums of branches, one input)"
        )


def _only_asks_for_a_size(node: fx.Node) -> bool:
    if node.op == "call_method" and node.target in _SIZE_METHODS:
        return True
    is_attribute = node.op == "call_function" and node.target in (getattr,)
    takes_size = node.op == "call_function" and all(_only_asks_for_a_size(item) for item in node.all_input_nodes)
    return is_attribute or (takes_size and bool(node.all_input_nodes))


def _refuse_shared_modules(graph_module: fx.GraphModule) -> None:
    called = Counter(str(node.target) for node in graph_module.graph.nodes if node.op == "call_module")
    repeated = [name for name, count in called.items() if count > 1]
    shared = [name for name in repeated if list(graph_module.get_submodule(name).parameters())]
    if shared:
        raise CoopexportError(f"cannot shrink: module '{shared[0]}' is used more than once in the network")


def _kind_and_name(graph_module: fx.GraphModule, node: fx.Node) -> tuple[Kind, str]:
    if node.op == "call_module":
        name = str(node.target)
        module = graph_module.get_submodule(name)
        for types, kind in _MODULE_KINDS:
            if isinstance(module, types):
                _refuse_unsupported(module, name)
                return kind, name
        raise CoopexportError(f"cannot shrink through '{name}': {type(module).__name__} is not known here")
    if node.op == "call_function" and node.target in _FUNCTION_KINDS:
        return _FUNCTION_KINDS[node.target], node.name
    if node.op == "call_method" and node.target in _METHOD_KINDS:
        return _METHOD_KINDS[str(node.target)], node.name
    raise CoopexportError(f"cannot shrink through '{node.name}': operation {node.target} is not known here")


def _refuse_unsupported(module: nn.Module, name: str) -> None:
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and module.groups != 1:
        raise CoopexportError(f"cannot shrink '{name}': grouped convolutions are not supported by this version")
    if isinstance(module, nn.Flatten) and (module.start_dim != 1 or module.end_dim != -1):
        raise CoopexportError(f"cannot shrink through '{name}': only flatten from dimension 1 to the end is known")
