"""The masked network: what a mask says, applied without removing anything. The reference for shrinking."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from exporter.masks.masks import Masks
from exporter.masks.unclear_ends import check_layer_ends
from exporter.tracing.layer_ends import channel_dimension, layer_end, layer_nodes
from exporter.tracing.operations import LAYERS
from exporter.tracing.trace import Inputs, TracedNetwork, copied, shape_of, trace
from exporter.tracing.weight_layout import filters_of
from jetson.errors import InputError


def masked_network(network: nn.Module, masks: Masks, example_inputs: Inputs) -> nn.Module:
    """Return a network that computes what `network` computes under `masks`.

    With masks of meaning `channel` the result shares the parameters of `network`, so that training it
    trains `network`; every masked layer's output is multiplied by its mask after batch norm and activation. With
    `weight` it is a copy in which the masked filters' weights and biases are zero.
    `example_inputs`: N x ..., as the network takes them. Raises CoopexportError naming the layer when a mask does
    not fit the network.
    """
    traced = trace(network, example_inputs)
    check_masks(traced, masks)
    if masks.meaning == "weight":
        return _with_zero_weights(network, masks)
    return _with_channel_masks(traced, masks)


def check_masks(traced: TracedNetwork, masks: Masks) -> None:
    """Raise InputError, naming the layer, when a mask does not fit the traced network.

    Also when nobody can tell behind which operation a `channel` mask applies.
    """
    layers = {name: output_channels(traced.network.get_submodule(name)) for name in layer_nodes(traced)}
    for name, keep in masks.keep.items():
        if name not in layers and isinstance(_module(traced.network, name), LAYERS):
            raise InputError(
                f"the mask of '{name}' cannot be followed: forward() does not call the layer as a module, its "
                "weight is made by a parametrisation, or it has hooks",
                layer=name,
                fix="leave it out of the masks, or take them off",
            )
        if name not in layers:
            raise InputError(
                f"there is a mask for '{name}', which is not a convolution or linear layer of the network; these are: "
                f"{_listed(list(layers))}",
                layer=name,
            )
        if len(keep) != layers[name]:
            raise InputError(
                f"the mask of '{name}' has {len(keep)} entries, the layer has {layers[name]} output channels",
                layer=name,
                fix="make masks from this network",
            )
        if not keep.any():
            raise InputError(f"the mask of '{name}' removes every channel", layer=name, fix="keep at least one")
    check_layer_ends(traced, masks)


def _module(network: nn.Module, name: str) -> nn.Module | None:
    return dict(network.named_modules(remove_duplicate=False)).get(name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown}, ... ({len(names)} in all)"


def output_channels(module: nn.Module) -> int:
    """Return how many channels a convolution or linear makes."""
    count = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    assert isinstance(count, int)
    return count


def _with_zero_weights(network: nn.Module, masks: Masks) -> nn.Module:
    masked = copied(network)
    with torch.no_grad():
        for name, keep in masks.keep.items():
            removed = torch.from_numpy(~keep)
            module = masked.get_submodule(name)
            weight, bias = module.weight, module.bias
            assert isinstance(weight, torch.Tensor)
            filters = filters_of(module, weight)
            filters[removed.reshape(filters.shape[:2])] = 0
            if isinstance(bias, torch.Tensor):
                bias[removed] = 0
    return masked


def _with_channel_masks(traced: TracedNetwork, masks: Masks) -> nn.Module:
    graph_module = traced.graph_module
    masked = {name: nodes for name, nodes in layer_nodes(traced).items() if name in masks.keep}
    ends = {name: [layer_end(traced, node) for node in nodes] for name, nodes in masked.items()}
    for name, places in ends.items():
        for end in places:
            keep = torch.from_numpy(masks.keep[name]).float()
            dimension = channel_dimension(end, traced.network.get_submodule(name))
            # Numbered: dots and underscores in names must not make two layers share a mask.
            buffer_name = f"mask_of_{name.replace('.', '_')}_{sum(1 for _ in graph_module.buffers())}"
            shape = [1] * len(shape_of(end))
            shape[dimension] = len(keep)
            graph_module.register_buffer(buffer_name, keep.reshape(shape))
            _multiply_after(graph_module, end, buffer_name)
    graph_module.recompile()
    return graph_module


def _multiply_after(graph_module: fx.GraphModule, end: fx.Node, buffer_name: str) -> None:
    with graph_module.graph.inserting_after(end):
        mask_node = graph_module.graph.get_attr(buffer_name)
    with graph_module.graph.inserting_after(mask_node):
        product = graph_module.graph.call_function(torch.mul, (end, mask_node))
    for user in [user for user in end.users if user is not product]:
        user.replace_input_with(end, product)
