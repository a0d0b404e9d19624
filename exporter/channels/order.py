"""Where every kept channel lies in the shrunk network: found by walking it once more, with kept channels only.

Operations such as a channel shuffle may bring kept channels into another order than the full network has; a layer's
weights are then cut in the order in which its inputs arrive.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.channels.classes import Atoms
from exporter.channels.feature import Feature, along, coordinates_of, flat_numbers
from exporter.channels.flow import ChannelFlow
from exporter.channels.joining_rules import with_new_dimension
from exporter.channels.kept import KeptClasses, complete
from exporter.channels.movement_rules import moved_values
from exporter.channels.walk import instances, walk
from exporter.tracing.operations import kind_of
from exporter.tracing.trace import node_name
from jetson.errors import UnsupportedError, one_line

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Ordered:
    """One tensor of the shrunk network: `origin` says for each of its channels which element of the full network's
    `atoms` array (a flat index) it is; it has size 1 in dimensions that hold no channels.
    """

    shape: tuple[int, ...]
    origin: Indices
    feature: Feature

    def coordinates(self, dimension: int) -> Indices:
        """Return which index of `dimension` of the full tensor each channel has."""
        if self.feature.varies(dimension):
            return coordinates_of(self.origin, self.feature.atoms.shape)[dimension]
        return along(dimension, len(self.shape), np.arange(self.shape[dimension]))


@dataclass(frozen=True)
class ChannelOrder:
    """`inputs`: which inputs each layer reads, in the order in which they arrive; `vectors`: the same for modules
    with parameters per channel; `parameters`: per free parameter, the kept indices of each dimension.
    """

    inputs: dict[str, Indices] = field(default_factory=dict)
    vectors: dict[str, Indices] = field(default_factory=dict)
    parameters: dict[str, dict[int, Indices]] = field(default_factory=dict)


class _OrderError(Exception):
    """An operation of the shrunk network would not do what that of the full one does."""

    def __init__(self, reason: str, *attempts: Atoms) -> None:
        """Take the reason, and what may be kept to mend it: the least first."""
        super().__init__(reason)
        self.reason, self.attempts = reason, attempts


def order_channels(flow: ChannelFlow, kept: KeptClasses) -> ChannelOrder:
    """Return the order of all kept channels, keeping more of them, in place, where operations leave no other way."""
    while True:
        order = ChannelOrder()
        try:
            walk(
                flow.traced,
                Ordered,
                lambda node: _start(flow, kept, order, node),  # noqa: B023  used before the next round
                lambda node, arguments, options: _rule(flow, kept, order, node, arguments, options),  # noqa: B023
            )
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = f"forward() computes with its width, which then fails ({one_line(error)[:80]})"
            if not kept.keep(np.arange(len(flow.classes)), reason):
                raise UnsupportedError(f"the network cannot be shrunk: {one_line(error)[:200]}") from error
            continue
        except _OrderError as conflict:
            everything = np.arange(len(flow.classes))
            if not any(kept.keep(atoms, conflict.reason) for atoms in (*conflict.attempts, everything)):
                raise AssertionError(f"no order of channels found: {conflict.reason}") from None
            complete(kept)
            continue
        return order


def _start(flow: ChannelFlow, kept: KeptClasses, order: ChannelOrder, node: fx.Node) -> Ordered:
    feature = flow.features[node]
    made = _in_full_order(kept, feature)
    if made is None:
        raise _OrderError(f"'{node_name(node)}' can only be cut along whole dimensions", feature.atoms)
    if node.op == "get_attr":
        order.parameters[str(node.target)] = {
            dim: np.unique(made.coordinates(dim)) for dim in range(len(made.shape)) if feature.varies(dim)
        }
    return made


def _in_full_order(kept: KeptClasses, feature: Feature) -> Ordered | None:
    """Return a tensor with its kept channels in the full network's order, None when they are not one dense block."""
    held = kept.holds(feature.atoms)
    sizes = [held.any(axis=tuple(d for d in range(held.ndim) if d != dim)) for dim in range(held.ndim)]
    origin = np.arange(held.size).reshape(held.shape)
    for dim, chosen in enumerate(sizes):
        origin = np.compress(chosen, origin, axis=dim)
    if not held.reshape(-1)[origin].all() or not held.any():
        return None
    return Ordered(_shape(feature, origin), origin, feature)


def _shape(feature: Feature, origin: Indices) -> tuple[int, ...]:
    return tuple(origin.shape[dim] if feature.varies(dim) else size for dim, size in enumerate(feature.shape))


def _rule(
    flow: ChannelFlow, kept: KeptClasses, order: ChannelOrder, node: fx.Node, arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> Any:  # fmt: skip
    full, name = flow.features[node], node_name(node)
    operands: list[Ordered] = list(instances(Ordered, (arguments, options)))
    layer = flow.layers.get(name) if node.op == "call_module" else None
    if layer is not None:
        _remember(order.inputs, name, _read(operands[0], layer.dimension), operands[0])
        return _in_full_order(kept, full)
    if node.op == "call_module" and name in flow.vectors:
        _remember(order.vectors, name, _read(operands[0], 1), operands[0])
        _check_whole_groups(flow.traced.module(node), name, order.vectors[name], operands[0])
    results = list(instances(Feature, full))
    if all(_is_whole(item) for item in operands) and all(kept.holds(item.atoms).all() for item in results):
        return _whole(full)
    if node in flow.movements:
        return _moved(flow, kept, node, operands[0], arguments, options)
    if kind_of(node, flow.traced.module(node)) == "concatenate":
        if node.target is torch.stack:
            dim = options.get("dim", arguments[1] if len(arguments) > 1 else 0) % len(full.shape)
            operands = [_with_new_dimension(operand, dim) for operand in operands]
        return _joined(kept, node, full, operands)
    return _combined(node, full, operands)


def _is_whole(item: Ordered) -> bool:
    return item.origin.size == item.feature.atoms.size and bool((np.diff(item.origin.reshape(-1)) == 1).all())


def _whole(full: Any) -> Any:
    if isinstance(full, Feature):
        return Ordered(full.shape, np.arange(full.atoms.size).reshape(full.atoms.shape), full)
    return tuple(_whole(item) for item in full) if isinstance(full, (tuple, list)) else full


def _read(operand: Ordered, dimension: int) -> Indices:
    if any(operand.feature.varies(other) for other in range(len(operand.shape)) if other != dimension):
        return np.arange(operand.shape[dimension])  # it stays whole
    return operand.coordinates(dimension).reshape(-1)


def _check_whole_groups(module: nn.Module | None, name: str, positions: Indices, operand: Ordered) -> None:
    """A group norm takes neighbours for a group: channels that arrive shuffled are in other groups."""
    if isinstance(module, nn.GroupNorm):
        groups = positions // (module.num_channels // module.num_groups)
        if (np.diff(groups) < 0).any():
            raise _OrderError(f"'{name}' groups channels that arrive in another order", operand.feature.atoms)


def _remember(known: dict[str, Indices], name: str, found: Indices, operand: Ordered) -> None:
    if not np.array_equal(known.setdefault(name, found), found):
        raise _OrderError(f"'{name}' is used more than once, on channels in another order", operand.feature.atoms)


def _moved(flow: ChannelFlow, kept: KeptClasses, node: fx.Node, operand: Ordered, arguments: Any, options: Any) -> Any:
    """Run a movement on the kept elements, and see that it brings them where the full network has them."""
    feature = operand.feature
    numbers = flat_numbers([operand.coordinates(dim) for dim in range(len(feature.shape))], feature.shape)
    values = torch.from_numpy(np.ascontiguousarray(np.broadcast_to(numbers, operand.shape), dtype=np.float64))
    conflict = _OrderError(
        f"'{node_name(node)}' takes fixed numbers of channels", _fixed_part(node, feature), feature.atoms
    )
    try:
        made = moved_values(node, flow.traced.module(node), values, arguments, options, Ordered)
    except (RuntimeError, ValueError, IndexError):
        raise conflict from None
    made = (made,) if isinstance(made, torch.Tensor) else tuple(made)
    full = flow.features[node]
    features = (full,) if isinstance(full, Feature) else tuple(full)
    if len(made) != len(features):
        raise conflict
    found = []
    for one, before, tensor in zip(features, flow.movements[node], made, strict=True):
        places = _inverse(before, int(np.prod(feature.shape)))[tensor.numpy().astype(np.int64)]
        found.append(_placed(kept, one, places))
    if any(item is None for item in found):
        raise conflict
    return found[0] if isinstance(full, Feature) else tuple(found)


def _inverse(numbers: Indices, count: int) -> Indices:
    """Return for each of `count` elements of a movement's input where it comes out, -1 for nowhere."""
    inverse = np.full(count, -1)
    inverse[numbers.reshape(-1)] = np.arange(numbers.size)
    return inverse


def _placed(kept: KeptClasses, full: Feature, places: Indices) -> Ordered | None:
    """Return the tensor whose elements are the elements `places` of `full`, None when that is not all that is kept."""
    shape = full.shape
    if places.ndim != len(shape) or (places < 0).any():
        return None
    coordinates = coordinates_of(places, shape)
    chosen = tuple(slice(None) if full.varies(dim) else slice(0, 1) for dim in range(places.ndim))
    for dim, found in enumerate(coordinates):
        expected = found[chosen] if full.varies(dim) else along(dim, places.ndim, np.arange(places.shape[dim]))
        if (not full.varies(dim) and places.shape[dim] != shape[dim]) or (found != expected).any():
            return None
    compressed = tuple(
        found[chosen] if full.varies(dim) else np.zeros((1,) * places.ndim, dtype=np.int64)
        for dim, found in enumerate(coordinates)
    )
    origin = flat_numbers(compressed, full.atoms.shape)
    if not np.array_equal(np.sort(origin.reshape(-1)), np.flatnonzero(kept.holds(full.atoms))):
        return None
    return Ordered(tuple(places.shape), origin, full)


def _fixed_part(node: fx.Node, feature: Feature) -> Atoms:
    """Return the channels that must all stay for an operation with written-out sizes to do what it did."""
    index = node.args[1] if node.target is operator.getitem else None
    for dim, item in enumerate(index if isinstance(index, tuple) else ()):
        if isinstance(item, slice) and dim < len(feature.shape) and feature.varies(dim):
            end = item.stop if item.stop is not None else item.start
            if isinstance(end, int) and end > 0 and item.step is None:
                return np.take(feature.atoms, np.arange(min(end, feature.atoms.shape[dim])), axis=dim)
    return feature.atoms


def _with_new_dimension(operand: Ordered, dim: int) -> Ordered:
    shape = (*operand.shape[:dim], 1, *operand.shape[dim:])
    return Ordered(shape, np.expand_dims(operand.origin, dim), with_new_dimension(operand.feature, dim))


def _joined(kept: KeptClasses, node: fx.Node, full: Feature, operands: list[Ordered]) -> Ordered:
    dim = _joined_dimension(full, operands)
    if not full.varies(dim):
        return _combined(node, full, operands)
    parts: list[list[Indices]] = []
    offset = 0
    varying = [other for other in range(len(full.shape)) if full.varies(other)]
    for operand in operands:
        sizes = tuple(operand.shape[other] if other in varying else 1 for other in range(len(full.shape)))
        found = [np.broadcast_to(operand.coordinates(other) + offset * (other == dim), sizes) for other in varying]
        parts.append(found)
        offset += operand.feature.shape[dim]
    try:
        coordinates = {other: np.concatenate([part[i] for part in parts], dim) for i, other in enumerate(varying)}
    except ValueError:
        atoms = np.concatenate([operand.feature.atoms.reshape(-1) for operand in operands])
        raise _OrderError(f"'{node_name(node)}' joins tensors that are cut differently", atoms) from None
    shape = next(iter(coordinates.values())).shape
    numbers = [coordinates.get(other, np.zeros(shape, dtype=np.int64)) for other in range(len(full.shape))]
    origin = flat_numbers(numbers, full.atoms.shape)
    return Ordered(_shape(full, origin), origin, full)


def _joined_dimension(full: Feature, operands: list[Ordered]) -> int:
    """Return the dimension along which the operands' full sizes add up to the result's."""
    for dim, size in enumerate(full.shape):
        if sum(operand.feature.shape[dim] for operand in operands) == size and len(operands) > 1:
            return dim
    return 0


def _combined(node: fx.Node, full: Feature, operands: list[Ordered]) -> Ordered:
    """Return the result of an operation that keeps channels where they are, in all of its operands alike."""
    varying = [dim for dim in range(len(full.shape)) if full.varies(dim)]
    reference = min(
        (item for item in operands if sum(map(item.feature.varies, range(len(item.shape)))) == len(varying)),
        key=lambda item: item.feature.atoms.size != full.atoms.size,
        default=None,
    )
    if reference is None:
        atoms = np.concatenate([operand.feature.atoms.reshape(-1) for operand in operands])
        raise _OrderError(f"'{node_name(node)}' combines channels of several dimensions", atoms)
    sizes = iter(size for dim, size in enumerate(reference.origin.shape) if reference.feature.varies(dim))
    origin = reference.origin.reshape([next(sizes) if dim in varying else 1 for dim in range(len(full.shape))])
    result = Ordered(_shape(full, origin), origin, full)
    for other in operands if len(operands) > 1 else ():
        missing = len(full.shape) - len(other.shape)
        for dim in varying:
            if dim < missing or other.feature.shape[dim - missing] == 1:
                continue
            mine, its = result.coordinates(dim), other.coordinates(dim - missing)
            its = its.reshape((1,) * missing + its.shape)
            if not _agree(mine, its):
                atoms = np.concatenate([full.atoms.reshape(-1), other.feature.atoms.reshape(-1)])
                raise _OrderError(f"'{node_name(node)}' combines channels that arrive in different orders", atoms)
    return result


def _agree(some: Indices, others: Indices) -> bool:
    try:
        return bool((some == others).all())
    except ValueError:
        return False
