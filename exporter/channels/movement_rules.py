"""How channels pass operations that bring elements to other places and change none: views, splits, shuffles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.channels.feature import Feature, along, element_numbers, moved, vector_along
from exporter.channels.flow_record import Flow, first_feature, opaque_rule
from exporter.tracing.operations import call
from exporter.tracing.trace import node_name


def movement_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Follow every element to its place; where channels are cut into equal parts, equally many of each must stay."""
    feature = first_feature(arguments, options)
    if feature is None:
        return opaque_rule(flow, node, module, arguments, options)
    made = moved_values(node, module, element_numbers(feature.shape), arguments, options, Feature)
    numbers = [item.numpy().astype(np.int64) for item in ((made,) if isinstance(made, torch.Tensor) else made)]
    if any(_repeats(item, feature.shape) for item in numbers):
        return opaque_rule(flow, node, module, arguments, options)
    flow.movements[node] = tuple(numbers)
    results = [moved(feature, item) for item in numbers]
    if _is_pixel_shuffle(node, module) and results[0].shape[1] < feature.shape[1]:
        results = [_with_tied_positions(flow, feature, results[0])]
    _record_equal_parts(flow, node, module, feature, results)
    return results[0] if isinstance(made, torch.Tensor) else tuple(results)


def _repeats(numbers: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    seen = np.zeros(int(np.prod(shape)), dtype=np.bool_)
    seen[numbers.reshape(-1)] = True
    return int(seen.sum()) != numbers.size


def _is_pixel_shuffle(node: fx.Node, module: nn.Module | None) -> bool:
    named = node.op == "call_function" and "pixel" in str(getattr(node.target, "__name__", ""))
    return named or isinstance(module, (nn.PixelShuffle, nn.PixelUnshuffle))


def _with_tied_positions(flow: Flow, feature: Feature, result: Feature) -> Feature:
    """Tie the channels that a pixel shuffle makes one channel of; neighbouring positions then hold the same one."""
    atoms = vector_along(feature, 1)
    if atoms is None:
        return result
    rows = atoms.reshape(result.shape[1], -1)
    flow.classes.unite(rows[:, :1], rows)
    return Feature(result.shape, along(1, len(result.shape), rows[:, 0]), result.constants)


def moved_values(
    node: fx.Node, module: nn.Module | None, values: torch.Tensor, arguments: Any, options: Any, shaped: type
) -> Any:
    """Run a movement on `values` in the place of its one tensor, for which a `shaped` stands in its arguments."""
    given: Any = fx.node.map_aggregate((arguments, options), lambda item: values if isinstance(item, shaped) else item)
    return call(node, module, *given)


def _record_equal_parts(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, results: list[Feature]
) -> None:
    """Where an operation cuts channels into equal parts, equally many of each part must stay."""
    name = node_name(node)
    if _is_pixel_shuffle(node, module):
        return
    groups = getattr(module, "groups", None)
    if isinstance(groups, int) or getattr(node.target, "__name__", "") == "channel_shuffle":
        atoms = vector_along(feature, 1)
        count = groups if isinstance(groups, int) else node.kwargs.get("groups", node.args[-1])
        if atoms is not None and isinstance(count, int):
            flow.equal_parts.append((name, atoms.reshape(count, -1)))
        return
    if len(results) > 1 and len({item.atoms.shape for item in results}) == 1:
        flow.equal_parts.append((name, np.stack([item.atoms.reshape(-1) for item in results])))
        return
    varying = [dim for dim in range(len(results[0].shape)) if results[0].varies(dim)]
    before = sum(feature.varies(dim) for dim in range(len(feature.shape)))
    if len(results) == 1 and len(varying) > 1 and before == 1:
        atoms = results[0].atoms
        flow.equal_parts.append((name, atoms.reshape(-1, atoms.shape[varying[-1]])))
