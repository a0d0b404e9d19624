"""How channels pass operations on several tensors: sums and products tie them, joining lines them up."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.channels.classes import PINNED
from exporter.channels.constants import evaluated, product
from exporter.channels.feature import Constants, Feature, compress, uniform
from exporter.channels.flow_record import Flow, opaque_rule
from exporter.channels.walk import instances
from exporter.tracing.trace import node_name, shape_of


def arithmetic_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Tie two tensors channel by channel; what is broadcast over channels must stay."""
    operands = [item for item in arguments if isinstance(item, Feature)]
    shape = shape_of(node)
    if len(operands) != len(list(instances(Feature, (arguments, options)))) or len(arguments) > 2:
        return opaque_rule(flow, node, module, arguments, options)
    operands = [_with_dimensions(item, len(shape)) for item in operands]
    constants = _arithmetic_constants(node, module, arguments, options, len(shape))
    tied = [item for item in operands if not _spread_over_channels(item, operands)]
    for item in operands:
        if not any(item is other for other in tied):
            flow.pin(item.atoms, f"'{node_name(node)}' spreads it over all channels of another tensor")
    if not tied:
        return opaque_rule(flow, node, module, arguments, options)
    result = min(tied, key=lambda item: item.atoms.size)
    for item in tied:
        if item is result:
            continue
        if any(item.varies(dim) < result.varies(dim) for dim in range(len(shape))):  # neither is coarser
            return opaque_rule(flow, node, module, arguments, options)
        if (item.atoms == PINNED).all() != (result.atoms == PINNED).all():
            for one in (item, result):
                flow.pin(one.atoms, f"'{node_name(node)}' combines it with channels that must stay")
        else:
            flow.classes.unite(item.atoms, result.atoms)
    return Feature(shape, result.atoms, constants)


def _with_dimensions(feature: Feature, count: int) -> Feature:
    """Return `feature` with leading dimensions of size 1, as broadcasting adds them."""
    missing = (1,) * (count - len(feature.shape))
    if not missing:
        return feature
    return Feature(
        (*missing, *feature.shape),
        feature.atoms.reshape(missing + feature.atoms.shape),
        feature.constants.reshape(missing + feature.constants.shape),
    )


def _spread_over_channels(feature: Feature, operands: list[Feature]) -> bool:
    return any(
        feature.shape[dim] == 1 and other.shape[dim] > 1 and other.varies(dim)
        for other in operands
        for dim in range(len(feature.shape))
    )


def _arithmetic_constants(
    node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any], ndim: int
) -> Constants:
    values = [_with_dimensions(item, ndim).constants if isinstance(item, Feature) else item for item in arguments]
    name = str(getattr(node.target, "__name__", node.target)).rstrip("_")
    if name in ("mul", "imul"):
        some, others = (np.asarray(value, dtype=np.float64) for value in values)
        return product(*(item if item.ndim else item.reshape((1,) * ndim) for item in (some, others)))
    result = evaluated(node, module, values, options)
    live = np.logical_or.reduce(
        np.broadcast_arrays(*(np.isnan(value) for value in values if isinstance(value, np.ndarray)))
    )
    return np.where(live, np.nan, result)


def concatenate_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Line channels up one after another; along a dimension without channels, tie them."""
    parts = list(arguments[0] if arguments else options["tensors"])
    shape = shape_of(node)
    dim = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else 0)) % len(shape)
    if not all(isinstance(part, Feature) for part in parts):
        return opaque_rule(flow, node, module, arguments, options)
    if node.target is torch.stack:
        if len({part.atoms.shape for part in parts}) == 1:
            rows = np.stack([part.atoms.reshape(-1) for part in parts])
            flow.equal_parts.append((node_name(node), rows))
        parts = [with_new_dimension(part, dim) for part in parts]
    elif not any(part.varies(dim) or (part.shape[dim] == 1 and dim == 1) for part in parts):
        return _stacked(flow, node, module, parts, arguments, options)
    atoms = _in_line([part.atoms for part in parts], [part.shape[dim] for part in parts], dim)
    constants = _in_line([part.constants for part in parts], [part.shape[dim] for part in parts], dim)
    return Feature(shape, compress(atoms), compress(constants))


def with_new_dimension(feature: Feature, dim: int) -> Feature:
    """Return `feature` with a dimension of size 1 at `dim`."""
    shape = (*feature.shape[:dim], 1, *feature.shape[dim:])
    return Feature(shape, np.expand_dims(feature.atoms, dim), np.expand_dims(feature.constants, dim))


def _in_line(arrays: list[NDArray[Any]], sizes: list[int], dim: int) -> NDArray[Any]:
    """Join arrays of size 1 or full along `dim`, in which each takes its full size; broadcast in the others."""
    common = np.broadcast_shapes(*((*array.shape[:dim], 1, *array.shape[dim + 1 :]) for array in arrays))
    return np.concatenate(
        [
            np.broadcast_to(array, (*common[:dim], size, *common[dim + 1 :]))
            for array, size in zip(arrays, sizes, strict=True)
        ],
        axis=dim,
    )


def _stacked(
    flow: Flow, node: fx.Node, module: nn.Module | None, parts: list[Feature], arguments: Any, options: Any
) -> Any:
    """Join tensors along a dimension that holds no channels: their channels are tied."""
    first = parts[0]
    if any(part.atoms.shape != first.atoms.shape for part in parts):
        return opaque_rule(flow, node, module, arguments, options)
    constants = uniform(first)
    for part in parts[1:]:
        flow.classes.unite(first.atoms, part.atoms)
        other = uniform(part)
        constants = np.where(constants == other, constants, np.nan)
    return Feature(shape_of(node), first.atoms, constants)
