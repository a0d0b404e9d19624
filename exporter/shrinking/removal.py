"""From masks to a shrink plan: which channels go, what is folded, how groups are rebuilt, and why channels stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from exporter.channels.constants import border_is_uniform
from exporter.channels.flow import ChannelFlow, LayerReads, follow_channels
from exporter.channels.kept import ROUNDED, KeptClasses, needed_classes, round_up, widths
from exporter.channels.order import ChannelOrder, Indices, order_channels
from exporter.masks.masks import Masks
from exporter.shrinking.grouped_layout import grouped_layout
from exporter.shrinking.plan import KeptChannels, LayerPlan, ParameterPlan, ShrinkPlan
from exporter.shrinking.silence import with_silence
from exporter.tracing.layer_ends import layer_nodes, output_layers
from exporter.tracing.trace import TracedNetwork, shape_of
from jetson.errors import InputError

__all__ = ["ROUNDED", "ShrinkOptions", "plan_removal"]


@dataclass(frozen=True)
class ShrinkOptions:
    """How far shrinking may go.

    `fold_borders`: take constants other than zero out of zero-padded convolutions, too, with one bias per position.
    `approximate`: take them out with one bias per channel, which is wrong at the border; its value is the largest
    error allowed, relative to the outputs' spread. `round_to`: make widths multiples of this number by leaving
    masked channels in.
    """

    fold_borders: bool = False
    approximate: float | None = None
    round_to: int | None = None


def plan_removal(
    traced: TracedNetwork,
    masks: Masks,
    options: ShrinkOptions,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
) -> tuple[ShrinkPlan, ChannelFlow]:
    """Return what is left of every module, and how channels flow through the full network.

    `importance`: per layer, which removed channels rounding brings back first. Raises CoopexportError when a mask
    names the network's own outputs, or masks a channel that must stay and cannot be held at zero.
    """
    _check_outputs_not_masked(traced, masks)
    approximate = options.approximate is not None
    flow = follow_channels(traced, masks, fold_any_border=options.fold_borders, approximate=approximate)
    kept = needed_classes(flow)
    order = order_channels(flow, kept)
    while options.round_to is not None and _round_up(kept, options.round_to, importance):
        order = order_channels(flow, kept)
    layers = {name: _layer_plan(flow, kept, order, layer, options) for name, layer in flow.layers.items()}
    for name, positions in order.vectors.items():
        layers[name] = _vector_plan(flow, name, positions)
    parameters = {
        name: ParameterPlan(kept={dim: _tuple(indices) for dim, indices in dims.items()})
        for name, dims in order.parameters.items()
        if dims and any(len(indices) < flow.parameters[name].shape[dim] for dim, indices in dims.items())
    }
    plan = ShrinkPlan(layers=layers, parameters=parameters, kept_although_masked=_stays(flow, kept, masks))
    return with_silence(plan, traced, masks), flow


def _round_up(kept: KeptClasses, multiple: int, importance: Mapping[str, NDArray[np.float64]] | None) -> bool:
    before = dict(widths(kept))
    round_up(kept, multiple, importance)
    return before != dict(widths(kept))


def _check_outputs_not_masked(traced: TracedNetwork, masks: Masks) -> None:
    for name in output_layers(traced):
        if name in masks.keep and not masks.keep[name].all():
            raise InputError(
                f"the mask of '{name}' removes outputs of the network", layer=name, fix="leave them out of it"
            )


def _tuple(indices: Indices) -> tuple[int, ...]:
    return tuple(int(index) for index in indices)


def _layer_plan(
    flow: ChannelFlow, kept: KeptClasses, order: ChannelOrder, layer: LayerReads, options: ShrinkOptions
) -> LayerPlan:
    module = flow.traced.network.get_submodule(layer.name)
    held = kept.holds(layer.outputs)
    outputs, inputs = np.flatnonzero(held), order.inputs[layer.name]
    gone = np.ones(len(layer.inputs), dtype=np.bool_)
    gone[inputs] = False
    folded = np.flatnonzero(gone & np.isfinite(layer.constants) & (layer.constants != 0))
    over: tuple[int, ...] = ()
    if len(folded) and options.fold_borders and not border_is_uniform(module):
        (node,) = layer_nodes(flow.traced)[layer.name]
        (read,) = node.all_input_nodes
        over = shape_of(read)[2:]
    layout = grouped_layout(layer, outputs, inputs)
    return LayerPlan(
        kind="linear" if isinstance(module, nn.Linear) else "convolution",
        kept_outputs=_tuple(outputs),
        kept_inputs=_tuple(inputs),
        groups=layout.groups,
        input_slots=layout.input_slots,
        output_slots=layout.output_slots,
        folded_inputs=_tuple(folded),
        folded_constants=tuple(float(value) for value in layer.constants[folded]),
        folded_over=over,
    )


def _vector_plan(flow: ChannelFlow, name: str, positions: Indices) -> LayerPlan:
    module = flow.traced.network.get_submodule(name)
    groups = 1
    if isinstance(module, nn.GroupNorm):
        kind = "group_norm"
        groups = len(np.unique(positions // (module.num_channels // module.num_groups)))
    elif isinstance(module, nn.PReLU):
        kind = "prelu"
    else:
        kind = "instance_norm" if "InstanceNorm" in type(module).__name__ else "batch_norm"
    indices = _tuple(positions)
    return LayerPlan(kind=kind, kept_outputs=indices, kept_inputs=indices, groups=groups)


def _stays(flow: ChannelFlow, kept: KeptClasses, masks: Masks) -> tuple[KeptChannels, ...]:
    """Return every masked channel that stays, with the reason."""
    stays: list[KeptChannels] = []
    for name, keep in masks.keep.items():
        if name not in flow.layers:
            continue
        atoms = flow.layers[name].outputs
        reasons: dict[str, list[int]] = {}
        channels = np.flatnonzero(~keep & kept.holds(atoms))
        for channel, why in zip(channels, kept.why(atoms[channels]), strict=True):
            reasons.setdefault(why, []).append(int(channel))
        stays.extend(KeptChannels(layer=name, channels=tuple(found), reason=why) for why, found in reasons.items())
    return tuple(stays)
