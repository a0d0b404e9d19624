"""What each channel holds on its way through a chain network: something live, or a known constant.

Traced with torch.fx: milliseconds, and independent of any input's values.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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

    def layer_starts(self) -> dict[str, int]:
        """Return the index of each convolution and linear, by its name."""
        return {step.name: index for index, step in enumerate(self.steps) if step.kind in ("convolution", "linear")}

    def layer_end(self, index: int) -> int:
        """Return the index of the last step of the layer that begins at `index`.

        A layer is a convolution or linear together with the batch norms and activations behind it; dropouts may stand
        between them, and pools may stand before them (convolution, pool, batch norm, activation).
        """
        end = index
        for position in range(index + 1, len(self.steps)):
            kind = self.steps[position].kind
            if kind in ("batch_norm", "activation"):
                end = position
            elif kind != "identity" and (end > index or kind not in ("max_pool", "average_pool")):
                break
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
    with _eval_mode(network, graph_module), torch.no_grad():
        run_network(network, example_inputs)  # for its clear message on a wrong shape
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
        assert previous is not None
        step = Step(node, *_kind_and_name(graph_module, node), _shape_of(node))
        _check_shapes(step, _shape_of(previous))
        steps.append(step)
        previous = node
    return Chain(graph_module, tuple(steps))


@contextmanager
def _eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Keep a network that is being trained as it is: a forward in training mode would move its running statistics."""
    training = [module for network in networks for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def run_network(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the network's output for `inputs` without gradients.

    Raises CoopexportError naming the input's shape when the network does not take it or returns anything
    but one tensor.
    """
    try:
        with torch.no_grad():
            outputs = network(inputs)
    except Exception as error:  # noqa: BLE001  the network is the user's code
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
        return constants, known & ((constants == 0) | _keeps_constants(chain, step))
    if step.kind == "flatten":
        repeats = step.channels // len(constants)
        return np.repeat(constants, repeats), np.repeat(known, repeats)
    return constants, known


def _evaluate_in_double(chain: Chain, step: Step, values: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if step.node.op == "call_module":
            module = copy.deepcopy(chain.module(step)).double().eval()
            return module(values.clone())  # type: ignore[no-any-return]
        arguments, options = fx.node.map_arg((step.node.args, step.node.kwargs), lambda _: values.clone())
        if step.node.op == "call_method":
            return getattr(arguments[0], str(step.node.target))(*arguments[1:], **options)  # type: ignore[no-any-return]
        assert callable(step.node.target)
        return step.node.target(*arguments, **options)  # type: ignore[no-any-return]


def _keeps_constants(chain: Chain, step: Step) -> bool:
    """Tell whether an average pool maps every constant to itself: it does not pad, and divides by what it adds up."""
    if step.node.op == "call_module":
        module = chain.module(step)
        padding, divisor = getattr(module, "padding", 0), getattr(module, "divisor_override", None)
    else:
        given = dict(enumerate(step.node.args))
        padding = step.node.kwargs.get("padding", given.get(3, 0))
        divisor = step.node.kwargs.get("divisor_override", given.get(6))
    return divisor is None and not np.any(padding)


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


def _shape_of(node: fx.Node) -> tuple[int, ...]:
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    if shape is None:
        raise CoopexportError(f"cannot shrink through '{node.target}': it makes more than one tensor")
    return tuple(shape)


def _check_shapes(step: Step, inputs: tuple[int, ...]) -> None:
    """Refuse what does not keep samples apart and channels in dimension 1, in their order."""
    if step.kind == "linear" and len(inputs) != 2:
        raise CoopexportError(
            f"cannot shrink '{step.name}': it is applied to inputs of shape {inputs}; a linear layer needs a flatten "
            "before it"
        )
    outputs = step.output_shape
    apart = len(outputs) > 1 and outputs[0] == inputs[0] and outputs[1] % inputs[1] == 0
    if step.kind == "flatten" and not apart:
        raise CoopexportError(
            f"cannot shrink through '{step.name}': it turns shape {inputs} into {outputs}, which mixes samples or "
            "channels; use torch.flatten(x, 1)"
        )


def fixed_sizes(step: Step) -> bool:
    """Tell whether a view or reshape writes a number of features, which other widths do not have."""
    if step.node.op != "call_method" or step.node.target not in ("view", "reshape"):
        return False
    sizes = step.node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    return any(isinstance(size, int) and size >= 0 for size in sizes[1:])


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
    weighted = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
    if weighted and "weight" not in dict(module.named_parameters(recurse=False)):
        raise CoopexportError(
            f"cannot shrink '{name}': its weight is computed by a hook (pruning, weight norm); make that permanent "
            "first, for example with torch.nn.utils.prune.remove"
        )
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and module.running_mean is None:
        raise CoopexportError(
            f"cannot shrink through '{name}': a batch norm without running statistics gives each batch another result"
        )
    if isinstance(module, nn.Flatten) and (module.start_dim != 1 or module.end_dim != -1):
        raise CoopexportError(f"cannot shrink through '{name}': only flatten from dimension 1 to the end is known")
