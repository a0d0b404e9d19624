"""Masked channels that stay: how they are held at the zero that the masked network has there."""

from __future__ import annotations

import itertools

import numpy as np
from torch import fx, nn

from exporter.channels.constants import average_pool_keeps_constants, evaluated
from exporter.channels.feature import Constants
from exporter.masks.masks import Masks
from exporter.shrinking.plan import ShrinkPlan, SilencePlan
from exporter.tracing.elementwise import module_ending_at, number_made, own_activation
from exporter.tracing.layer_ends import channel_dimension, layer_chain, layer_nodes
from exporter.tracing.layer_roles import role_of, values_read
from exporter.tracing.operations import kind_of
from exporter.tracing.trace import TracedNetwork, node_name, shape_of
from jetson.errors import UnsupportedError


def with_silence(plan: ShrinkPlan, traced: TracedNetwork, masks: Masks) -> ShrinkPlan:
    """Return `plan` with masked channels that stay held at what the masked network has there."""
    layers, silenced = dict(plan.layers), dict(plan.silenced)
    for name, nodes in layer_nodes(traced).items():
        if name not in masks.keep or name not in layers:
            continue
        zeroed = tuple(channel for channel in layers[name].kept_outputs if not masks.keep[name][channel])
        if not zeroed:
            continue
        if masks.meaning == "weight":
            layers[name] = layers[name].model_copy(update={"zeroed_outputs": zeroed})
            continue
        for node in nodes:
            chain = layer_chain(traced, node)
            norms = [str(item.target) for item in chain if kind_of(item, traced.module(item)) == "batch_norm"]
            zeroable = all(norm in layers and _only_in_chains(traced, norm, nodes) for norm in norms)
            if zeroable and _gives_zero(traced, chain) and not _used_elsewhere(traced, [name, *norms]):
                for silent in (name, *norms):
                    layers[silent] = layers[silent].model_copy(update={"zeroed_outputs": zeroed})
                continue
            place = _module_before_zeros(traced, chain)
            if place is None:
                why = next((item.reason for item in plan.kept_although_masked if item.layer == name), "")
                raise UnsupportedError(
                    f"cannot shrink '{name}': {len(zeroed)} of its masked channels have to stay ({why}), and "
                    f"'{node_name(chain[-1])}' gives no zero for them",
                    layer=name,
                    fix="leave it out of the masks, or make the activation a module of its own",
                )
            module, made = place
            kept = layers[name].kept_outputs
            dimension = channel_dimension(made, traced.network.get_submodule(name))
            shape = tuple(len(kept) if dim == dimension else 1 for dim in range(len(shape_of(made))))
            mask = tuple(int(channel not in zeroed) for channel in kept)
            silenced[module] = SilencePlan(mask=mask, shape=shape)
    return plan.model_copy(update={"layers": layers, "silenced": silenced})


def _module_before_zeros(traced: TracedNetwork, chain: tuple[fx.Node, ...]) -> tuple[str, fx.Node] | None:
    """Return the last module of a layer behind which zeros stay zeros up to the layer's end, and what it makes."""
    for index in range(len(chain) - 1, 0, -1):
        rest = chain[index:]
        if any(role_of(traced, item) == "batch_norm" for item in rest[1:]) or not _gives_zero(traced, rest):
            return None
        module = module_ending_at(traced, chain[index], chain[0])
        if module is not None:
            return module, chain[index]
    return None


def _used_elsewhere(traced: TracedNetwork, names: list[str]) -> bool:
    """Tell whether the network also uses the parameters of a module by themselves, so that they cannot be zeroed."""
    used = {str(node.target).rpartition(".")[0] for node in traced.nodes if node.op == "get_attr"}
    return not used.isdisjoint(names)


def _only_in_chains(traced: TracedNetwork, norm: str, nodes: list[fx.Node]) -> bool:
    """Tell whether a batch norm is only called behind this layer (which may be called several times)."""
    inside = {item for node in nodes for item in layer_chain(traced, node) if item.target == norm}
    return inside == {item for item in traced.nodes if item.op == "call_module" and item.target == norm}


def _gives_zero(traced: TracedNetwork, chain: tuple[fx.Node, ...]) -> bool:
    """Tell whether a layer whose parameters, and those of its batch norms, are zero in a channel gives zero there."""
    values: Constants = np.zeros((1, 1, 1, 1))
    for last, node in itertools.pairwise(chain):
        module = traced.module(node)
        kind = kind_of(node, module)
        if own_activation(traced, last) is node:
            values = np.full((1, 1, 1, 1), number_made(traced, last, node, float(values.item())))
        elif kind == "opaque" or values_read(traced, node) != [last]:
            return False  # a batch norm of the user's own
        elif kind == "batch_norm":
            affine = getattr(module, "weight", None) is not None
            if values.any() and not affine:
                return False
            values = np.zeros((1, 1, 1, 1))
        elif (kind == "average_pool" and values.any() and not average_pool_keeps_constants(node, module)) or (
            kind == "prelu" and values.any()
        ):
            return False
        elif kind == "activation":
            values = _activated(node, module, values)
    return not values.any()


def _activated(node: fx.Node, module: nn.Module | None, values: Constants) -> Constants:
    read = node.all_input_nodes[0]
    arguments, options = (
        fx.node.map_aggregate(item, lambda part: values if part is read else part)  # type: ignore[arg-type,return-value]
        for item in (node.args, node.kwargs)
    )
    return evaluated(node, module, arguments, options)  # type: ignore[arg-type]
