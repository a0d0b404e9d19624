"""What modules make of channels that hold a known constant. NaN stands for a live channel, and stays NaN."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.channels.feature import Constants, along
from exporter.tracing.operations import TRANSPOSED_CONVOLUTIONS, call
from exporter.tracing.weight_layout import filters_of, zero_filters


def evaluated(
    node: fx.Node, module: nn.Module | None, arguments: Sequence[Any], options: Mapping[str, Any]
) -> Constants:
    """Return what an operation that goes element by element makes of constants, in float64.

    `arguments` and `options`: those of `node`, with arrays for tensors.
    """
    in_double = None if module is None else copy.deepcopy(module).double().eval()
    with torch.no_grad():
        tensors = fx.node.map_aggregate(  # cloned: the operation may write into them
            (tuple(arguments), dict(options)),
            lambda item: torch.from_numpy(np.array(item)) if isinstance(item, np.ndarray) else item,
        )
        result: NDArray[np.float64] = call(node, in_double, *tensors).numpy()
    return np.where(np.isfinite(result), result, np.nan)


def product(some: Constants, others: Constants) -> Constants:
    """Return the product; a zero makes a zero even of what is live."""
    zero = (some == 0) | (others == 0)
    return np.where(zero, 0.0, some * others)


def batch_norm(module: nn.Module, constants: Constants, dimension: int) -> Constants:
    """Return what a batch norm in eval mode makes of `constants`, whose channels are in `dimension`.

    A channel whose gamma is zero is the constant beta, whatever comes in (Liu et al. 2017, network slimming).
    """
    mean, variance, gamma, beta = (
        along(dimension, constants.ndim, _vector(module, name, default))
        for name, default in (("running_mean", 0.0), ("running_var", 1.0), ("weight", 1.0), ("bias", 0.0))
    )
    eps = module.eps
    assert isinstance(eps, float)
    outputs = (constants - mean) / np.sqrt(variance + eps) * gamma + beta
    return np.where(gamma == 0, np.broadcast_to(beta, outputs.shape), outputs)


def group_norm(module: nn.Module, constants: Constants, groups: int) -> Constants:
    """Return what a group norm makes of one constant per channel (a vector): known where its whole group is.

    With as many groups as channels this is an instance norm. A channel whose gamma is zero is the constant beta.
    """
    rows = constants.reshape(groups, -1)
    mean, variance = rows.mean(axis=1, keepdims=True), rows.var(axis=1, keepdims=True)
    gamma, beta = _vector(module, "weight", 1.0, len(constants)), _vector(module, "bias", 0.0, len(constants))
    eps = module.eps
    assert isinstance(eps, float)
    outputs = ((rows - mean) / np.sqrt(variance + eps)).reshape(-1) * gamma + beta
    return np.where(gamma == 0, beta, outputs)


def _vector(module: nn.Module, name: str, default: float, count: int = 1) -> Constants:
    tensor = getattr(module, name, None)
    if tensor is None:
        return np.full(count, default)
    values: Constants = tensor.detach().double().numpy()
    return values


def layer_outputs(
    module: nn.Module, constants: Constants, usable: NDArray[np.bool_], silent: NDArray[np.bool_]
) -> Constants:
    """Return the constant of every output channel of a convolution or linear, NaN where it is live.

    `constants`: of the inputs; `usable`: where the layer makes one and the same constant of an input's constant at
    every position; `silent`: outputs whose weights and bias are taken for zero.
    """
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    rows = filters_of(module, weight)
    groups = rows.shape[0]
    bias = _vector(module, "bias", 0.0, rows.shape[0] * rows.shape[1])
    outputs = np.where(zero_filters(rows), bias, np.nan)
    known = usable.reshape(groups, -1).all(axis=1)
    if known.any():
        chosen = torch.from_numpy(np.flatnonzero(known))
        inputs = torch.from_numpy(np.where(usable, constants, 0.0).reshape(groups, -1)).index_select(0, chosen)
        sums = rows.index_select(0, chosen).flatten(3).double().sum(3) if rows.ndim > 3 else rows[chosen].double()
        values = torch.einsum("goi,gi->go", sums, inputs).numpy() + bias.reshape(groups, -1)[known]
        outputs.reshape(groups, -1)[known] = values
    return np.where(silent, 0.0, outputs)


def border_is_uniform(module: nn.Module) -> bool:
    """Tell whether a layer makes of a constant input the same at every position, its border included."""
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, TRANSPOSED_CONVOLUTIONS):
        sizes = (*module.kernel_size, *module.stride)
        return all(size == 1 for size in sizes) and not any((*module.padding, *module.output_padding))
    padding: Any = getattr(module, "padding", (0,))
    mode = getattr(module, "padding_mode", "zeros")
    if padding == "valid" or mode != "zeros":
        return True
    kernel = getattr(module, "kernel_size", ())
    return all(size == 1 for size in kernel) if padding == "same" else not any(padding)


def average_pool_keeps_constants(node: fx.Node, module: nn.Module | None) -> bool:
    """Tell whether an average pool maps every constant to itself: it adds no zeros, and divides by what it adds up."""
    if module is not None:
        padding, divisor = getattr(module, "padding", 0), getattr(module, "divisor_override", None)
        counts_padding = getattr(module, "count_include_pad", True)
    else:
        given = dict(enumerate(node.args))
        padding = node.kwargs.get("padding", given.get(3, 0))
        counts_padding = node.kwargs.get("count_include_pad", given.get(5, True))
        divisor = node.kwargs.get("divisor_override", given.get(6))
    return divisor is None and (not np.any(padding) or not counts_padding)
