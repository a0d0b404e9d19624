"""Shrink a masked network into a smaller dense one that computes the same function.

Lossless by construction: a channel goes only where every layer that reads it finds it zero, or a constant that its
bias can take over; any other masked channel stays, and the reason is recorded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from exporter import parity
from exporter.channels.flow import ChannelFlow, check_one_function
from exporter.masks.masked_network import check_masks, masked_network, output_channels
from exporter.masks.masks import Masks
from exporter.parity import Parity
from exporter.shrinking.plan import ShrinkPlan
from exporter.shrinking.removal import ShrinkOptions, plan_removal
from exporter.shrinking.slice_modules import apply_shrink_plan
from exporter.tracing.layer_ends import layer_nodes
from exporter.tracing.trace import Inputs, as_tuple, copied, run_network, shape_of, trace
from jetson.errors import InputError

__all__ = ["LayerSize", "ShrinkOptions", "Shrunk", "shrink", "shrink_parity"]


@dataclass(frozen=True)
class LayerSize:
    """Size of one layer before and after: output channels, parameters, multiply-accumulates per sample."""

    name: str
    channels_before: int
    channels_after: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class Shrunk:
    """A shrunk network, how it was made, what was proven, and what it saves."""

    network: nn.Module
    plan: ShrinkPlan
    parity: tuple[Parity, ...]
    sizes: tuple[LayerSize, ...]


def shrink(network: nn.Module, masks: Masks, example_inputs: Inputs, options: ShrinkOptions | None = None) -> Shrunk:
    """Return the dense network that computes what `network` computes under `masks`.

    `network`: any that torch.fx can trace, in eval mode; it is not changed. `example_inputs`: at least 2 samples,
    N x ..., float32, as varied as real ones (a tuple for a network with several inputs); equality is proven on
    them in float64 and recorded in float32. Raises CoopexportError naming the layer when the network or a mask is
    not supported, and when the proof fails.
    """
    options = ShrinkOptions() if options is None else options
    small, plan, flow = shrink_unproven(network, masks, example_inputs, options)
    checks = shrink_parity(
        masked_network(copied(network), masks, example_inputs),
        small,
        example_inputs,
        shrunk_in_double=apply_shrink_plan(copied(network).double(), plan),
        approximate=options.approximate,
    )
    return Shrunk(small, plan, checks, layer_sizes(network, small, flow))


def shrink_unproven(
    network: nn.Module, masks: Masks, example_inputs: Inputs, options: ShrinkOptions
) -> tuple[nn.Module, ShrinkPlan, ChannelFlow]:
    """Return the shrunk network, its plan, and the flow of channels that it rests on, before any proof."""
    if any(module.training for module in network.modules()):
        raise InputError("the network is in training mode", fix="call eval() first: batch norm would change")
    traced = trace(network, example_inputs)
    check_one_function(traced)
    check_masks(traced, masks)
    plan, flow = plan_removal(traced, masks, options)
    return apply_shrink_plan(network, plan), plan, flow


def shrink_parity(
    masked: nn.Module,
    shrunk: nn.Module,
    example_inputs: Inputs,
    *,
    shrunk_in_double: nn.Module | None = None,
    approximate: float | None = None,
) -> tuple[Parity, ...]:
    """Compare both networks on `example_inputs`, in float64 (the proof) and float32 (as it will run).

    `shrunk_in_double`: the shrunk network made in float64, where constants were folded, which float32 rounds; by
    default `shrunk` itself. `approximate`: the bound for a network that is not meant to be equal. Returns the two
    checks; raises CoopexportError when either error is above its bound.
    """
    doubles = tuple(tensor.double() for tensor in as_tuple(example_inputs))
    exact = copy.deepcopy(shrunk) if shrunk_in_double is None else shrunk_in_double
    masked_in_double = copy.deepcopy(masked)
    proof = compare(masked_in_double, exact, doubles, "shrink", chosen_bound(approximate, parity.SHRINK_BOUND))
    bound = chosen_bound(approximate, float32_bound(masked, masked_in_double, example_inputs))
    return proof, compare(masked, shrunk, example_inputs, "shrink-float32", bound)


def chosen_bound(approximate: float | None, bound: float) -> float:
    """Return the bound of a network that need not be equal, or, where none was given, `bound`."""
    return bound if approximate is None else approximate


def float32_bound(masked: nn.Module, masked_in_double: nn.Module, inputs: Inputs) -> float:
    """Return how far float32 may take the shrunk network from the masked one.

    1e-3 of the outputs' spread, or, in a network that loses more by itself, four times what rounding to float32
    takes the masked network from its own float64 outputs: sums in another order round otherwise.
    """
    doubles = tuple(tensor.double() for tensor in as_tuple(inputs))
    rounding = max(
        parity.relative_error(one.double().numpy(), other.double().numpy(), "rounding of the masked network to float32")
        for one, other in zip(
            run_network(masked_in_double.double().eval(), doubles),
            run_network(masked.to(as_tuple(inputs)[0].dtype).eval(), inputs),
            strict=True,
        )
    )
    return max(parity.SHRINK_FLOAT32_BOUND, 4 * rounding)


def compare(masked: nn.Module, shrunk: nn.Module, inputs: Inputs, check: str, bound: float) -> Parity:
    """Return how far two networks are apart on `inputs`; raises CoopexportError when that is more than `bound`."""
    dtype = as_tuple(inputs)[0].dtype
    reference, outputs = (run_network(network.to(dtype).eval(), inputs) for network in (masked, shrunk))
    error = max(
        parity.relative_error(one.double().numpy(), other.double().numpy(), f"parity check '{check}'")
        for one, other in zip(reference, outputs, strict=True)
    )
    how = f"masked against shrunk network in {str(dtype).removeprefix('torch.')}, eval mode"
    return parity.passing_parity(Parity(check, error, bound, len(as_tuple(inputs)[0]), how), "shrink")


def layer_sizes(before: nn.Module, after: nn.Module, flow: ChannelFlow) -> tuple[LayerSize, ...]:
    """Return the size of every layer of a network before and after shrinking."""
    sizes = []
    for name, nodes in layer_nodes(flow.traced).items():
        old, new = before.get_submodule(name), after.get_submodule(name)
        positions = sum(_positions(old, shape_of(node), shape_of(node.all_input_nodes[0])) for node in nodes)
        macs = [positions * weight.numel() for weight in (old.weight, new.weight) if isinstance(weight, torch.Tensor)]
        parameters = [sum(item.numel() for item in module.parameters()) for module in (old, new)]
        layer = flow.layers.get(name)
        width = output_channels(old)
        left = width if layer is None else _kept_outputs(new)
        sizes.append(LayerSize(name, width, left, *parameters, *macs))
    return tuple(sizes)


def _kept_outputs(module: nn.Module) -> int:
    picked = getattr(module, "output_index", None)
    return len(picked) if picked is not None else output_channels(module)


def _positions(module: nn.Module, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> int:
    """Return how often a layer's weights are used per sample: positions of its output, of its input if transposed."""
    if isinstance(module, nn.Linear):
        return int(np.prod(outputs[1:-1]))
    transposed = isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    return int(np.prod((inputs if transposed else outputs)[2:]))
