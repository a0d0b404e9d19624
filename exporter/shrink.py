"""Shrink a masked chain network into a smaller dense one that computes the same function.

Lossless by construction: a channel goes only where it is exactly zero all the way to the layer that
consumes it; a masked channel that is some other constant there is kept, and the reason recorded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter import parity
from exporter.channel_flow import Chain, Step, carry_constants, fixed_sizes, run_network, trace_chain
from exporter.masked_network import check_masks, masked_network
from exporter.masks import Masks
from exporter.parity import Parity
from exporter.shrink_plan import KeptChannels, LayerPlan, ShrinkPlan, resize
from jetson.errors import CoopexportError


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


def shrink(network: nn.Module, masks: Masks, example_inputs: torch.Tensor) -> Shrunk:
    """Return the dense network that computes what `network` computes under `masks`.

    `network`: a chain (convolutions, batch norms, activations, pools, flatten, linears), in eval mode; it is not
    changed. `example_inputs`: at least 2 samples, N x ..., float32, as varied as real ones; equality is proven on
    them in float64 and recorded in float32. Raises CoopexportError naming the layer when the network or a mask is
    not supported, and when the proof fails.
    """
    was_training = [name for name, module in network.named_modules() if module.training]
    if was_training:
        raise CoopexportError("the network is in training mode; call eval() first: batch norm would change")
    chain = trace_chain(network, example_inputs)
    check_masks(chain, masks)
    plan = plan_removal(chain, masks)
    small = copy.deepcopy(network)
    _silence_masked_filters(small, chain, masks)
    resize(small, plan.layers)
    reference = masked_network(copy.deepcopy(network), masks, example_inputs)
    checks = prove_equal(reference, small, example_inputs)
    return Shrunk(small, plan, checks, _sizes(network, small, chain, example_inputs))


def plan_removal(chain: Chain, masks: Masks) -> ShrinkPlan:
    """Decide which channels go, following every masked channel's constant to the layer that consumes it.

    Raises CoopexportError when a mask names the network's own outputs or would leave a layer empty.
    """
    layers: dict[str, LayerPlan] = {}
    stays: list[KeptChannels] = []
    kept_inputs = np.arange(_input_channels(chain))
    for index, step in enumerate(chain.steps):
        if step.kind not in ("convolution", "linear"):
            continue
        keep = masks.keep.get(step.name, np.ones(step.output_shape[1], dtype=np.bool_))
        found = _follow(chain, index, keep, masks.meaning)
        if found.consumer is None and not keep.all():
            raise CoopexportError(f"the mask of '{step.name}' removes outputs of the network; leave them out of it")
        removed = ~keep & found.zero_at_consumer
        if found.reason and (~keep & ~removed).any():
            channels = tuple(int(i) for i in np.flatnonzero(~keep & ~removed))
            stays.append(KeptChannels(layer=step.name, channels=channels, reason=found.reason))
            if masks.meaning == "channel":
                _refuse_loud_layer(chain, index)
        if found.fixed_view and removed.any():
            raise CoopexportError(
                f"cannot shrink '{step.name}': '{found.fixed_view}' behind it writes a number of features, which "
                "changes; use torch.flatten(x, 1)"
            )
        kept_outputs = np.flatnonzero(~removed)
        layers[step.name] = _layer_plan(
            "convolution" if step.kind == "convolution" else "linear", kept_outputs, kept_inputs
        )
        for other in found.per_channel:
            kept = _repeated(kept_outputs, other.channels // len(keep))
            layers[other.name] = _layer_plan("batch_norm" if other.kind == "batch_norm" else "prelu", kept, kept)
        kept_inputs = _repeated(kept_outputs, found.repeats)
    return ShrinkPlan(layers=layers, kept_although_masked=tuple(stays))


def _silence_masked_filters(network: nn.Module, chain: Chain, masks: Masks) -> None:
    """Zero what the masks zero, in place, so that a masked channel that has to stay computes what it should.

    With meaning `channel` the batch norm behind is zeroed as well.
    """
    starts = chain.layer_starts()
    with torch.no_grad():
        for name, keep in masks.keep.items():
            index = starts[name]
            end = chain.layer_end(index) if masks.meaning == "channel" else index
            for step in chain.steps[index : end + 1]:
                if step.kind in ("convolution", "linear", "batch_norm"):
                    module = network.get_submodule(step.name)
                    for parameter in module.parameters(recurse=False):
                        parameter[torch.from_numpy(~keep)] = 0


def _refuse_loud_layer(chain: Chain, index: int) -> None:
    """Raise CoopexportError when the layer at `index` cannot be made to give 0 by zeroing its parameters."""
    constants, known = np.zeros(chain.steps[index].channels), np.ones(chain.steps[index].channels, dtype=np.bool_)
    for step in chain.steps[index + 1 : chain.layer_end(index) + 1]:
        constants, known = carry_constants(chain, step, constants, known)
        if step.kind == "batch_norm" and list(chain.module(step).parameters()):
            constants = np.zeros_like(constants)
    if constants.any():
        raise CoopexportError(
            f"cannot shrink '{chain.steps[index].name}': a batch norm behind the layer makes another constant of its "
            "masked channels, so that they have to stay, and its activation gives no zero; leave it out of the masks"
        )


@dataclass(frozen=True)
class _Followed:
    """Where a layer's channels end up."""

    consumer: Step | None
    per_channel: tuple[Step, ...]  # batch norms, and PReLUs with one slope per channel
    fixed_view: str  # a view that has the number of features written into it, or nothing
    repeats: int  # features per channel at the consumer, more than 1 after flatten
    zero_at_consumer: NDArray[np.bool_]
    reason: str


def _follow(chain: Chain, index: int, keep: NDArray[np.bool_], meaning: str) -> _Followed:
    """Follow the masked channels of the layer at `index` to the next convolution or linear."""
    masked_from = chain.layer_end(index) if meaning == "channel" else index
    constants, known = np.zeros(len(keep)), np.zeros(len(keep), dtype=np.bool_)
    per_channel: list[Step] = []
    fixed_view = ""
    consumer = None
    for position in range(index, len(chain.steps)):
        step = chain.steps[position]
        if position > index:
            if step.kind in ("convolution", "linear"):
                consumer = step
                break
            if step.kind == "batch_norm" or _is_prelu_per_channel(chain, step):
                per_channel.append(step)
            if step.kind == "flatten" and fixed_sizes(step):
                fixed_view = step.name
            constants, known = carry_constants(chain, step, constants, known)
        if position == masked_from:
            constants, known = np.zeros(len(keep)), ~keep
    repeats = len(constants) // len(keep)
    zero = (known & (constants == 0)).reshape(len(keep), repeats).all(axis=1)
    others = constants.reshape(len(keep), repeats)[~keep & ~zero]
    reason = ""
    if consumer is not None and len(others):
        largest = np.abs(others).max()
        what = f"a constant (up to {largest:.3g})" if largest else "something else at its border"
        reason = f"not zero but {what} where '{consumer.name}' reads it; it would have to be folded"
    return _Followed(consumer, tuple(per_channel), fixed_view, repeats, zero, reason)


def _is_prelu_per_channel(chain: Chain, step: Step) -> bool:
    module = chain.module(step) if step.node.op == "call_module" else None
    return isinstance(module, nn.PReLU) and module.num_parameters > 1


def _repeated(kept: NDArray[np.int64], repeats: int) -> NDArray[np.int64]:
    """Return the indices of the features that stem from the kept channels."""
    return (kept[:, None] * repeats + np.arange(repeats)).reshape(-1)


def _layer_plan(kind: str, outputs: NDArray[np.int64], inputs: NDArray[np.int64]) -> LayerPlan:
    return LayerPlan(
        kind=kind,
        kept_outputs=tuple(int(i) for i in outputs),
        kept_inputs=tuple(int(i) for i in inputs),
    )


def _input_channels(chain: Chain) -> int:
    for step in chain.steps:
        if step.kind in ("convolution", "linear"):
            weight = chain.module(step).weight
            assert isinstance(weight, torch.Tensor)
            return weight.shape[1]
    raise CoopexportError("the network has no convolution or linear layer: there is nothing to shrink")


def prove_equal(masked: nn.Module, shrunk: nn.Module, example_inputs: torch.Tensor) -> tuple[Parity, ...]:
    """Compare both networks on `example_inputs`, in float64 (the proof) and float32 (as it will run).

    Returns the two checks; raises CoopexportError when either is above its bound.
    """
    checks = []
    for check, dtype, bound in (
        ("shrink", torch.float64, parity.SHRINK_BOUND),
        ("shrink-float32", torch.float32, parity.SHRINK_FLOAT32_BOUND),
    ):
        inputs = example_inputs.to(dtype)
        reference = run_network(copy.deepcopy(masked).to(dtype).eval(), inputs).numpy()
        outputs = run_network(copy.deepcopy(shrunk).to(dtype).eval(), inputs).numpy()
        error = parity.relative_error(reference, outputs, f"parity check '{check}'")
        how = f"masked against shrunk network in {str(dtype).removeprefix('torch.')}, eval mode"
        checks.append(parity.require(Parity(check, error, bound, len(inputs), how), "shrink"))
    return tuple(checks)


def _sizes(before: nn.Module, after: nn.Module, chain: Chain, inputs: torch.Tensor) -> tuple[LayerSize, ...]:
    sizes = []
    for step in chain.steps:
        if step.kind not in ("convolution", "linear"):
            continue
        old, new = before.get_submodule(step.name), after.get_submodule(step.name)
        positions = int(np.prod(step.output_shape[2:]))
        weights = [module.weight for module in (old, new)]
        assert isinstance(weights[0], torch.Tensor)
        assert isinstance(weights[1], torch.Tensor)
        sizes.append(
            LayerSize(
                step.name,
                weights[0].shape[0],
                weights[1].shape[0],
                sum(parameter.numel() for parameter in old.parameters()),
                sum(parameter.numel() for parameter in new.parameters()),
                weights[0].numel() * positions,
                weights[1].numel() * positions,
            )
        )
    return tuple(sizes)
