"""The dense network that is left when groups of channels are gone, and its way back into the full-size one.

Pruning goes on for many rounds, training in between. What is trained is always the small dense network; its weights
are written back into the full-size one, from which, under its masks, the shrinker makes exactly that dense network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.masks.masks import Masks
from exporter.pruning.channel_groups import ChannelGroups
from exporter.shrinking.plan import ShrinkPlan
from exporter.shrinking.removal import ShrinkOptions, plan_removal
from exporter.shrinking.shrink import LayerSize, layer_sizes
from exporter.shrinking.slice_modules import apply_shrink_plan
from exporter.tracing.trace import copied
from jetson.errors import UnsupportedError

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class DenseNetwork:
    """What is left of a network: `removed` (one boolean per group), its masks, the plan, and the network itself."""

    groups: ChannelGroups
    removed: NDArray[np.bool_]
    masks: Masks
    plan: ShrinkPlan
    network: nn.Module

    def sizes(self) -> tuple[LayerSize, ...]:
        """Return channels, parameters and multiply-accumulates of every layer, before and after."""
        return layer_sizes(self.groups.traced.network, self.network, self.groups.flow)

    def macs(self) -> int:
        """Return multiply-accumulates per sample of all convolutions and linear layers."""
        return sum(size.macs_after for size in self.sizes())


def state_of(network: nn.Module) -> State:
    """Return a copy of all parameters and buffers of `network`; raises CoopexportError when one is not a tensor."""
    for name, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(
                f"the network cannot be pruned: '{name}' in its state_dict() is a {type(value).__name__}",
                fix="prune a network of tensors alone, as it was before it was quantised",
            )
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def without_groups(
    groups: ChannelGroups, full: State, removed: NDArray[np.bool_], origin: str
) -> tuple[DenseNetwork, State]:
    """Return the dense network that is left of the full-size weights `full` without the groups `removed`.

    Also returned are the full-size weights that it stands for: norms behind removed channels are silenced (gamma and
    beta zero), or those that are not part of the layer would make constants of the zeros. A group that the shrinker
    cannot take out without a trace is put back: `removed` of the result holds what is really gone. `origin`: for the
    masks, who made them. The network of `groups` is loaded with the result's weights.
    """
    removed = removed.copy()
    carrier = groups.traced.network.eval()
    while True:
        carrier.load_state_dict(full)
        _silence(groups, removed)
        keep = {name: mask for name, mask in groups.masks(removed).items() if not mask.all()}
        masks = Masks(keep, "channel", origin)
        plan, _ = plan_removal(groups.traced, masks, ShrinkOptions())
        back = _that_stay(groups, plan)
        if not removed[back].any():
            return DenseNetwork(groups, removed, masks, plan, apply_shrink_plan(carrier, plan).eval()), state_of(
                carrier
            )
        removed[back] = False


def fewest_to(dense: DenseNetwork, full: State, order: Sequence[int], target_macs: float) -> NDArray[np.bool_]:
    """Return which groups are gone when as few of `order`, its first, go as reach `target_macs`; or all of them."""

    def first(count: int) -> NDArray[np.bool_]:
        removed = dense.removed.copy()
        removed[list(order[:count])] = True
        return removed

    def reached(count: int) -> bool:
        return without_groups(dense.groups, full, first(count), "")[0].macs() <= target_macs

    least, most = 1, len(order)
    if not reached(most):
        return first(most)
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if reached(middle) else (middle + 1, most)
    return first(least)


def _silence(groups: ChannelGroups, removed: NDArray[np.bool_]) -> None:
    with torch.no_grad():
        for name, found in groups.of_vector.items():
            module = groups.traced.network.get_submodule(name)
            gone = torch.from_numpy(np.append(removed, False)[found])
            if isinstance(module, nn.PReLU):
                continue
            affine = module.weight is not None
            for attribute in ("weight", "bias") if affine else ("running_mean",):
                tensor = getattr(module, attribute, None)
                if isinstance(tensor, torch.Tensor):
                    tensor[gone] = 0


def _that_stay(groups: ChannelGroups, plan: ShrinkPlan) -> NDArray[np.int64]:
    """Return the groups of channels that stay although they are masked, or that left a constant behind."""
    found = [groups.of_layer[item.layer][list(item.channels)] for item in plan.kept_although_masked]
    for name, layer in plan.layers.items():
        if layer.folded_inputs:
            found.append(groups.numbers(groups.flow.layers[name].inputs[list(layer.folded_inputs)]))
    every = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))
    return every[every >= 0]


def write_back(dense: DenseNetwork, full: State) -> State:
    """Return the full-size weights `full` with those of the trained dense network in their places.

    Places are found by sending every weight's own address through the plan. Raises CoopexportError when the shrinker
    would not make exactly the dense network of the result: every bit is compared.
    """
    carrier = dense.groups.traced.network
    addressed = copied(carrier).double()
    tensors = addressed.state_dict()
    offsets: dict[str, int] = {}
    starts: dict[int, int] = {}  # a module may have several names
    end = 1  # 0 is what the plan fills up with
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            offsets[name] = starts.setdefault(tensor.data_ptr(), end)
            if offsets[name] != end:
                continue
            tensor.copy_(torch.arange(end, end + tensor.numel(), dtype=torch.float64).reshape(tensor.shape))
            end += tensor.numel()
    sent = apply_shrink_plan(addressed, dense.plan).state_dict()
    result = {name: tensor.clone() for name, tensor in full.items()}
    for name, tensor in dense.network.state_dict().items():
        if name not in result:
            continue  # the shrinker's own: which channels are picked, and the like
        if not tensor.is_floating_point():
            result[name] = tensor.clone()
            continue
        places = sent[name].reshape(-1).long() - offsets[name]
        real = places >= 0
        result[name].view(-1)[places[real]] = tensor.detach().cpu().reshape(-1)[real]
    carrier.load_state_dict(result)
    _check_same_state(apply_shrink_plan(carrier, dense.plan).state_dict(), dense.network.state_dict())
    return result


def _check_same_state(made: State, trained: State) -> None:
    for name, tensor in trained.items():
        if name not in made or not torch.equal(made[name], tensor.detach().cpu()):
            raise UnsupportedError(
                f"'{name}' of the pruned network has no place in the full-size one, so the network cannot be pruned "
                "step by step",
                fix="prune it elsewhere and give its masks to: coopexport shrink",
            )
