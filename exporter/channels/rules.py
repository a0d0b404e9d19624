"""How each kind of operation passes channels on, and what becomes of those that are constant."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from exporter.channels.constants import average_pool_keeps_constants, evaluated
from exporter.channels.feature import Feature, uniform
from exporter.channels.flow_record import Flow, Rule, one_tensor, opaque_rule
from exporter.channels.joining_rules import arithmetic_rule, concatenate_rule
from exporter.channels.movement_rules import movement_rule
from exporter.channels.norm_rules import batch_norm_rule, group_norm_rule, prelu_rule
from exporter.tracing.operations import Kind
from exporter.tracing.trace import shape_of


def _activation(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature:
    given: Any = fx.node.map_aggregate(
        (arguments, options), lambda item: feature.constants if isinstance(item, Feature) else item
    )
    constants = evaluated(node, module, *given)
    return Feature(feature.shape, feature.atoms, np.where(np.isnan(feature.constants), np.nan, constants))


def _same(flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, *_: Any) -> Feature:
    return Feature(shape_of(node), feature.atoms, feature.constants)


def _spatial(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    """Pass channels on through an operation that mixes positions and keeps every channel's constant."""
    shape = shape_of(node)
    changed = [dimension for dimension, size in enumerate(feature.shape) if size != shape[dimension]]
    if len(shape) != len(feature.shape) or any(feature.varies(dimension) for dimension in range(2, len(shape))):
        return None
    if any(dimension < len(shape) - 3 or feature.varies(dimension) for dimension in changed):
        return None
    name = type(module).__name__ if module is not None else str(getattr(node.target, "__name__", node.target))
    pooled = next((count for count in (1, 2, 3) if f"{count}d" in name), 0)
    if any(feature.varies(dimension) for dimension in range(len(shape) - pooled, len(shape))):
        return None
    return Feature(shape, feature.atoms, uniform(feature))


def _average_pool(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    passed = _spatial(flow, node, module, feature, arguments, options)
    if passed is None or average_pool_keeps_constants(node, module):
        return passed
    return Feature(passed.shape, passed.atoms, np.where(passed.constants == 0, 0.0, np.nan))


def _pad(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    shape = shape_of(node)
    if any(feature.varies(dim) and shape[dim] != feature.shape[dim] for dim in range(len(shape))):
        return None
    if module is not None:
        copies_border = isinstance(
            module, (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d)
        )
        value = float(getattr(module, "value", 0.0))
    else:
        mode = options.get("mode", arguments[2] if len(arguments) > 2 else "constant")
        copies_border = mode != "constant"
        value = float(options.get("value", arguments[3] if len(arguments) > 3 else 0.0) or 0.0)
    constants = uniform(feature)
    return Feature(shape, feature.atoms, constants if copies_border else np.where(constants == value, value, np.nan))


def _reduce(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    dims = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else None))
    keep = bool(options.get("keepdim", options.get("keepdims", arguments[2] if len(arguments) > 2 else False)))
    if dims is None or isinstance(dims, bool):
        return None
    numbers = {dim % len(feature.shape) for dim in ([dims] if isinstance(dims, int) else dims)}
    if any(feature.varies(dim) for dim in numbers):
        return None
    constants = uniform(feature)
    if str(getattr(node.target, "__name__", node.target)) == "sum":
        constants = np.where(constants == 0, 0.0, np.nan)  # another size of image gives another sum
    atoms = feature.atoms
    if not keep:
        atoms, constants = atoms.squeeze(tuple(numbers)), constants.squeeze(tuple(numbers))
    return Feature(shape_of(node), atoms, constants)


RULES: dict[Kind, Rule] = {
    "opaque": opaque_rule,
    "convolution": opaque_rule,  # reached only where what it reads is not a tensor of the walk
    "linear": opaque_rule,
    "batch_norm": one_tensor(batch_norm_rule),
    "instance_norm": one_tensor(group_norm_rule),
    "group_norm": one_tensor(group_norm_rule),
    "prelu": one_tensor(prelu_rule),
    "activation": one_tensor(_activation),
    "identity": one_tensor(_same),
    "pool": one_tensor(_spatial),
    "average_pool": one_tensor(_average_pool),
    "resample": one_tensor(_spatial),
    "reduce": one_tensor(_reduce),
    "pad": one_tensor(_pad),
    "arithmetic": arithmetic_rule,
    "concatenate": concatenate_rule,
    "movement": movement_rule,
}
