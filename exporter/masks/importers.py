"""Masks out of what pruning leaves behind in a network: zero filters, torch.nn.utils.prune, small batch-norm gammas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.masks.masked_network import output_channels
from exporter.masks.masks import Masks
from exporter.tracing.operations import LAYERS, kind_of
from exporter.tracing.trace import Inputs, TracedNetwork, shape_of, trace
from exporter.tracing.weight_layout import filters_of, zero_filters
from jetson.errors import InputError


def from_zero_weights(network: nn.Module) -> Masks:
    """Return masks of the filters of `network` whose weights and bias are all exactly zero; meaning `weight`.

    Looks at convolutions, transposed ones and linear layers, of any dtype; where torch.nn.utils.prune is active, at the
    masked weights. A filter of zero weights with another bias is a constant and not masked. Layers with nothing to
    mask are left out; one of zeros alone keeps its first filter, which changes nothing.
    """
    keep = {}
    for name, module in weighted_layers(network):
        weight = _effective(module, "weight")
        assert weight is not None
        keep[name] = ~(zero_filters(filters_of(module, weight)) & zero_biases(module))
    return Masks(_one_left(keep), "weight", "filters that are zero")


def from_torch_prune(network: nn.Module) -> Masks:
    """Return masks of the filters that torch.nn.utils.prune, active on `network`, masks wholly; meaning `weight`.

    A filter counts when its part of `weight_mask` is zero and its bias is absent, masked or zero; with another bias it
    is a constant. Layers with nothing to mask are left out; a wholly masked one keeps its first filter, which changes
    nothing. `network` is not changed. Raises CoopexportError when no layer's weight is being pruned.

    Source: torch.nn.utils.prune.BasePruningMethod.
    """
    keep = {}
    for name, module in weighted_layers(network):
        mask = module._buffers.get("weight_mask")
        if mask is not None and "weight_orig" in module._parameters:
            keep[name] = ~(zero_filters(filters_of(module, mask)) & zero_biases(module))
    if not keep:
        raise InputError(
            "torch.nn.utils.prune is active on no weight of the network",
            fix="if it was made permanent, take the masks from the zero weights",
        )
    return Masks(_one_left(keep), "weight", "torch.nn.utils.prune")


def from_batch_norm_gammas(network: nn.Module, example_inputs: Inputs, threshold: float = 0.0) -> Masks:
    """Return masks of the channels that a batch norm scales by at most `threshold` (network slimming).

    Threshold 0 gives masks of meaning `weight`, which change nothing: with gamma 0 batch norm gives beta whatever it
    reads. Above 0, |gamma| <= threshold, they have the meaning `channel`: beta goes as well, and the function changes.
    Only layers that one batch norm alone reads, directly or behind dropout, are masked; those with nothing to mask are
    left out. `example_inputs`: N x ..., as the network takes them, values do not matter. Raises CoopexportError for a
    negative threshold, when there is no such layer, when one would lose all channels, and when the network cannot
    be traced.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
    """
    if not threshold >= 0:
        raise InputError(f"the threshold of batch-norm gammas is {threshold}; it must be 0 or more")
    gammas = dict(_gammas_of_layers(trace(network, example_inputs)))
    if not gammas:
        raise InputError(
            "no convolution or linear layer of the network is read by a batch norm with gammas, and by nothing else",
            fix="take the masks from elsewhere",
        )
    keep = {name: ~_on_host(gamma.abs() <= threshold) for name, gamma in gammas.items()}
    for name, vector in keep.items():
        if not vector.any():
            way_out = "lower the threshold" if threshold > 0 else "take that layer out of the network"
            raise InputError(
                f"no gamma behind '{name}' is above {threshold:g}, so that it would lose every channel",
                layer=name,
                fix=way_out,
            )
    origin = f"batch-norm gammas of at most {threshold:g}"
    return Masks(_one_left(keep), "channel" if threshold > 0 else "weight", origin)


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the convolutions and linear layers of `network`, each once, with their names."""
    return ((name, module) for name, module in network.named_modules() if isinstance(module, LAYERS))


def zero_biases(module: nn.Module) -> NDArray[np.bool_]:
    """Tell for each output channel whether its bias is zero or absent."""
    bias = _effective(module, "bias")
    return np.ones(output_channels(module), dtype=np.bool_) if bias is None else _on_host(bias == 0)


def _effective(module: nn.Module, name: str) -> torch.Tensor | None:
    """Return a parameter as it acts: under an active torch.nn.utils.prune the attribute is that of the last forward."""
    original, mask = module._parameters.get(f"{name}_orig"), module._buffers.get(f"{name}_mask")
    value = getattr(module, name) if original is None or mask is None else original * mask.to(original.dtype)
    return None if value is None else value.detach()


def _gammas_of_layers(traced: TracedNetwork) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each layer that only a batch norm reads, with the gammas; layers called more than once are left out."""
    calls = Counter(str(node.target) for node in traced.nodes if node.op == "call_module")
    for node in traced.nodes:
        layer = traced.module(node)
        # A linear layer on more than N x features has its channels in another dimension than batch norm.
        if not isinstance(layer, LAYERS) or len(shape_of(node)) != layer.weight.dim() or calls[str(node.target)] > 1:
            continue
        reader = _only_reader(traced, node)
        norm = None if reader is None else traced.module(reader)
        gamma = getattr(norm, "weight", None)
        if reader is not None and kind_of(reader, norm) == "batch_norm" and gamma is not None:
            yield str(node.target), gamma.detach()


def _only_reader(traced: TracedNetwork, node: fx.Node) -> fx.Node | None:
    """Return the one operation that reads what `node` makes, dropouts left out; None when there are several."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if kind_of(node, traced.module(node)) != "identity":
            return node
    return None


def _one_left(keep: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """Leave out layers that keep everything; those that keep nothing keep channel 0, as no layer can be empty."""
    return {
        name: vector if vector.any() else np.arange(len(vector)) == 0
        for name, vector in keep.items()
        if not vector.all()
    }


def _on_host(condition: torch.Tensor) -> NDArray[np.bool_]:
    return np.array(condition.cpu().numpy(), dtype=np.bool_)
