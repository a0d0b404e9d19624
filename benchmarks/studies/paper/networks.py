"""Pruned VGG-16 networks of given widths: masked, shrunk, checked to be dense, and exported as engines are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn

from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.layers.export import export
from exporter.masks.masks import Masks
from exporter.models.vgg import FULL_WIDTHS, LAYER_NAMES, VGG16, vgg16
from exporter.shrinking.shrink import Shrunk, shrink
from jetson.errors import ParityError

INPUT_SHAPE = (3, 32, 32)
# Sides of the square feature maps that the layers of LAYER_NAMES write.
MAP_SIZES = tuple(32 >> (int(name[4]) - 1) for name in LAYER_NAMES)


@dataclass(frozen=True)
class DenseModel:
    """A dense network, ready to be timed: what it costs, how it was proven, and its graph (batch 1).

    `macs`: multiply-accumulates per image. `float64_error`: of the shrunk against the masked network, relative to the
    outputs' spread; None for a network that was not shrunk.
    """

    name: str
    widths: tuple[int, ...]
    parameters: int
    macs: int
    float64_error: float | None
    graph: onnx.ModelProto


def random_vgg(widths: Sequence[int] = FULL_WIDTHS, seed: int = 0) -> VGG16:
    """Return a VGG-16 with random weights whose batch-norm statistics fit random data, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = vgg16(widths)
    for norm in _norms(network):
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.bias.data = torch.rand(norm.bias.shape, generator=generator) - 0.5
    settle(network)
    return network


def settle(network: VGG16, masks: Masks | None = None, batches: int = 4, seed: int = 0) -> None:
    """Let the batch-norm statistics of `network` follow random data, in place, under `masks` of meaning `channel`.

    Otherwise the outputs of a deep random network hardly depend on its input, and equality would prove nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = _norms(network)
    momentum = norms[0].momentum
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean: nothing is left of the initial variance
    hooks = []
    for name, keep in (masks.keep if masks else {}).items():
        factor = torch.from_numpy(keep).float().reshape(1, -1, 1, 1)
        activation = network.get_submodule(name.replace("conv", "relu"))
        hooks.append(activation.register_forward_hook(lambda _module, _inputs, output, factor=factor: output * factor))
    network.train()
    with torch.no_grad():
        for _ in range(batches):
            network(torch.randn((16, *INPUT_SHAPE), generator=generator))
    for hook in hooks:
        hook.remove()
    for norm in norms:
        norm.momentum = momentum
    network.eval()


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def example_images(count: int = 16, seed: int = 1) -> torch.Tensor:
    """Return random images, count x 3 x 32 x 32, float32."""
    return torch.randn((count, *INPUT_SHAPE), generator=torch.Generator().manual_seed(seed))


def channel_masks(widths: Sequence[int], seed: int = 0) -> Masks:
    """Return masks of meaning `channel` for the full-width VGG-16 that keep `widths` channels, chosen at random.

    With the same seed, smaller widths keep a part of what larger ones keep. Raises ValueError when a width is not
    between 1 and the unpruned one.
    """
    random = np.random.default_rng(seed)
    keep = {}
    for layer, width, full in zip(LAYER_NAMES, widths, FULL_WIDTHS, strict=True):
        if not 1 <= width <= full:
            raise ValueError(f"{layer} has {full} channels and cannot keep {width}")
        kept = np.zeros(full, dtype=np.bool_)
        kept[random.permutation(full)[:width]] = True
        keep[f"features.{layer}"] = kept
    return Masks(keep, "channel", f"random channels, seed {seed}")


def shrink_to(original: VGG16, widths: Sequence[int], images: torch.Tensor) -> Shrunk:
    """Return the full-width VGG-16 `original` shrunk to `widths`, checked to be exactly that dense network.

    Its batch-norm statistics are settled again under the masks, in a copy. Raises CoopexportError when the shrunk
    network is another one, or as `shrink`.
    """
    masks = channel_masks(widths)
    network = copy.deepcopy(original)
    settle(network, masks)
    shrunk = shrink(network, masks, images)
    check_dense(shrunk.network, widths)
    return shrunk


def check_dense(network: nn.Module, widths: Sequence[int]) -> None:
    """Raise ParityError, naming the first difference, unless `network` is built like `vgg16(widths)`.

    Compares every layer's kind and settings (channels, kernel, stride, padding) and the shape of every parameter and
    buffer.
    """
    found, wanted = _construction(network), _construction(vgg16(widths))
    for name in dict.fromkeys((*wanted, *found)):
        if found.get(name) != wanted.get(name):
            raise ParityError(
                f"the shrunk network is not dense: {name} is {found.get(name, 'missing')}, expected "
                f"{wanted.get(name, 'nothing')}"
            )


def _construction(network: nn.Module) -> dict[str, str]:
    layers = {name: repr(module) for name, module in network.named_modules() if not list(module.children())}
    return {**layers, **{name: str(tuple(value.shape)) for name, value in network.state_dict().items()}}


def shrunk_model(name: str, original: VGG16, widths: Sequence[int], images: torch.Tensor) -> DenseModel:
    """Return `original` shrunk to `widths` as it is timed; raises CoopexportError as `shrink_to` and `export`."""
    shrunk = shrink_to(original, widths, images)
    error = next(item.error for item in shrunk.parity if item.check == "shrink")
    macs = sum(size.macs_after for size in shrunk.sizes)
    return DenseModel(name, tuple(widths), _parameters(shrunk.network), macs, error, _graph(shrunk.network, images))


def plain_model(name: str, network: nn.Module, widths: Sequence[int], images: torch.Tensor) -> DenseModel:
    """Return a VGG-16 of `widths` that was not shrunk, as it is timed; raises CoopexportError as `export`."""
    return DenseModel(name, tuple(widths), _parameters(network), sum(layer_macs(widths)), None, _graph(network, images))


def layer_macs(widths: Sequence[int], classes: int = 10) -> tuple[int, ...]:
    """Return the multiply-accumulates per image of the 13 convolutions and the classifier of a VGG-16 of `widths`."""
    inputs = (INPUT_SHAPE[0], *widths[:-1])
    convolutions = [9 * a * b * size * size for a, b, size in zip(inputs, widths, MAP_SIZES, strict=True)]
    return (*convolutions, widths[-1] * classes)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _graph(network: nn.Module, images: torch.Tensor) -> onnx.ModelProto:
    return target_file(export(network, images).model, find_target("cpu"), (1, 1, 1), "the network")
