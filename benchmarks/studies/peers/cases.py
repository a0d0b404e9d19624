"""The networks and masks that every tool is given: seeded weights, random masks, outputs that depend on the inputs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from benchmarks.studies.peers.case_files import NetworkSource, StoredCase
from exporter.masks.masked_network import masked_network, output_channels
from exporter.masks.masks import Masks, Meaning
from exporter.tracing.layer_ends import layer_chain, layer_nodes
from exporter.tracing.trace import TracedNetwork, trace

# Inputs for which outputs are compared.
SAMPLES = 8
_MASKED_SHARE = 0.5
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


PUBLISHED = tuple(
    NetworkSource(name, f"pytorchcv.models.{module}", function)
    for name, module, function in (
        ("VGG-16-BN", "vgg", "bn_vgg16"),
        ("ResNet-18", "resnet", "resnet18"),
        ("ResNet-50", "resnet", "resnet50"),
        ("MobileNetV2", "mobilenetv2", "mobilenetv2_w1"),
        ("DenseNet-121", "densenet", "densenet121"),
        ("ResNeXt-50 32x4d", "resnext", "resnext50_32x4d"),
    )
)


@dataclass(frozen=True)
class Case:
    """One network with one set of masks. `inputs`: SAMPLES x shape, float32.

    `zeroed` computes the same under the masks without being masked: filters are zero and, with masks of meaning
    `channel`, so are gamma and beta of the batch norms that belong to them. It is what tools are given that read
    weights, not masks.
    """

    source: NetworkSource
    network: nn.Module
    masks: Masks
    inputs: torch.Tensor
    zeroed: nn.Module = field(repr=False)

    @property
    def sample(self) -> torch.Tensor:
        """Return the first input, 1 x shape: tools trace with it."""
        return self.inputs[:1]

    @property
    def stored(self) -> StoredCase:
        """Return what another process needs of the case beside a network's weights."""
        return StoredCase(self.source, self.masks.meaning, self.masks.keep, self.inputs)

    def masked(self) -> nn.Module:
        """Return the masked network, the reference of all tools; it shares nothing with `network`."""
        return masked_network(copy.deepcopy(self.network), self.masks, self.inputs)


def build_case(source: NetworkSource, meaning: Meaning, seed: int = 0) -> Case:
    """Return the network of `source` with half of the filters of every layer masked, but for the outputs'.

    Gamma and beta are drawn, and the running statistics are those of the inputs under the masks: otherwise the
    outputs of a deep random network hardly depend on its input, and equality would show nothing.
    Raises CoopexportError when the network cannot be traced.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = source.build()
    generator = torch.Generator().manual_seed(seed + 1)
    inputs = torch.randn((SAMPLES, *source.shape), generator=generator)
    masks = _random_masks(trace(network, inputs), meaning, seed)
    _settle(network, masks, inputs, generator)
    return Case(source, network, masks, inputs, _zeroed(network, masks, inputs))


def _random_masks(traced: TracedNetwork, meaning: Meaning, seed: int) -> Masks:
    """Mask half of the filters of every convolution and linear that does not make the outputs."""
    random = np.random.default_rng(seed)
    outputs = _output_layers(traced)
    keep: dict[str, NDArray[np.bool_]] = {}
    for name in layer_nodes(traced):
        if name not in outputs:
            width = output_channels(traced.network.get_submodule(name))
            keep[name] = random.permutation(width) >= min(round(width * _MASKED_SHARE), width - 1)
    return Masks(keep, meaning)


def _output_layers(traced: TracedNetwork) -> set[str]:
    """Return the layers that the outputs show with no other layer between."""
    layers = {node: name for name, nodes in layer_nodes(traced).items() for node in nodes}
    found: set[str] = set()
    seen: set[fx.Node] = set()
    todo = [node for node in traced.nodes if node.op == "output"]
    while todo:
        node = todo.pop()
        if node in layers:
            found.add(layers[node])
        elif node not in seen:
            todo += node.all_input_nodes
        seen.add(node)
    return found


def _settle(network: nn.Module, masks: Masks, inputs: torch.Tensor, generator: torch.Generator) -> None:
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean: nothing is left of the initial variance
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.bias.data = torch.rand(norm.bias.shape, generator=generator) - 0.5
    masked = masked_network(network, masks, inputs).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropouts draw
        masked(inputs)
        moved = dict(masked.named_buffers())
        for name, buffer in network.named_buffers():
            buffer.copy_(moved[name])
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    network.eval()


def _zeroed(network: nn.Module, masks: Masks, inputs: torch.Tensor) -> nn.Module:
    zeroed = masked_network(network, Masks(masks.keep, "weight"), inputs)
    if masks.meaning == "weight":
        return zeroed
    traced = trace(zeroed, inputs)
    with torch.no_grad():
        for name, nodes in layer_nodes(traced).items():
            for norm in (traced.module(node) for node in layer_chain(traced, nodes[0])):
                if name in masks.keep and isinstance(norm, _NORMS):
                    removed = torch.from_numpy(~masks.keep[name])
                    norm.weight[removed] = 0
                    norm.bias[removed] = 0
    return zeroed
