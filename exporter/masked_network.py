"""The masked network: what a mask says, applied without removing anything. The reference for shrinking."""

from __future__ import annotations

import copy

import torch
from torch import nn

from exporter.channel_flow import Chain, Step, trace_chain
from exporter.masks import Masks
from jetson.errors import CoopexportError


def masked_network(network: nn.Module, masks: Masks, example_inputs: torch.Tensor) -> nn.Module:
    """Return a network that computes what `network` computes under `masks`.

    With masks of meaning `channel` the result shares the parameters of `network`, so that training it
    trains `network`; every masked layer's output is multiplied by its mask after batch norm and activation. With
    `weight` it is a copy in which the masked filters' weights and biases are zero.
    `example_inputs`: N x ..., as the network takes it. Raises CoopexportError naming the layer when a mask does
    not fit the network.
    """
    chain = trace_chain(network, example_inputs)
    check_masks(chain, masks)
    if masks.meaning == "weight":
        return _with_zero_weights(network, masks)
    return _with_channel_masks(chain, masks)


def check_masks(chain: Chain, masks: Masks) -> None:
    """Raise CoopexportError, naming the layer, when a mask does not fit the traced network."""
    layers = {name: chain.steps[index] for name, index in chain.layer_starts().items()}
    for name, keep in masks.keep.items():
        if name not in layers:
            raise CoopexportError(
                f"there is a mask for '{name}', which is no convolution or linear layer of the network; these are: "
                f"{', '.join(layers)}"
            )
        if len(keep) != _weight(chain, layers[name]).shape[0]:
            raise CoopexportError(
                f"the mask of '{name}' has {len(keep)} entries, the layer has "
                f"{_weight(chain, layers[name]).shape[0]} output channels"
            )
        if not keep.any():
            raise CoopexportError(f"the mask of '{name}' removes every channel; keep at least one")


def _weight(chain: Chain, step: Step) -> torch.Tensor:
    weight = chain.module(step).weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _with_zero_weights(network: nn.Module, masks: Masks) -> nn.Module:
    masked = copy.deepcopy(network)
    with torch.no_grad():
        for name, keep in masks.keep.items():
            removed = torch.from_numpy(~keep)
            module = masked.get_submodule(name)
            for parameter in (module.weight, module.bias):
                if isinstance(parameter, torch.Tensor):
                    parameter[removed] = 0
    return masked


def _with_channel_masks(chain: Chain, masks: Masks) -> nn.Module:
    graph_module = chain.graph_module
    for name, index in chain.layer_starts().items():
        if name not in masks.keep:
            continue
        end = chain.steps[chain.layer_end(index)]
        keep = torch.from_numpy(masks.keep[name]).float()
        buffer_name = f"mask_of_{name.replace('.', '_')}_{index}"
        graph_module.register_buffer(buffer_name, keep.reshape(1, -1, *[1] * (len(end.output_shape) - 2)))
        with graph_module.graph.inserting_after(end.node):
            mask_node = graph_module.graph.get_attr(buffer_name)
        with graph_module.graph.inserting_after(mask_node):
            product = graph_module.graph.call_function(torch.mul, (end.node, mask_node))
        for user in [user for user in end.node.users if user is not product]:
            user.replace_input_with(end.node, product)
    graph_module.recompile()
    return graph_module
