"""The usual families of CNNs: small ones, built as their authors define them, and the published ones.

The blocks are pytorchcv's where it has the family.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from own_networks import branchynet, googlenet, two_inputs, unet
from pytorchcv.models.densenet import DenseNet
from pytorchcv.models.dpn import DPN
from pytorchcv.models.efficientnet import EfficientNet
from pytorchcv.models.mobilenet import MobileNet
from pytorchcv.models.mobilenetv2 import MobileNetV2
from pytorchcv.models.mobilenetv3 import MobileNetV3
from pytorchcv.models.pnasnet import PNASNet
from pytorchcv.models.preresnet import PreResNet
from pytorchcv.models.regnet import RegNet
from pytorchcv.models.resnet import ResNet
from pytorchcv.models.resnext import ResNeXt
from pytorchcv.models.senet import SENet
from pytorchcv.models.shufflenet import ShuffleNet
from pytorchcv.models.shufflenetv2 import ShuffleNetV2
from pytorchcv.models.vgg import VGG, VGGDense
from small_networks import seeded
from torch import fx, nn

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks

CLASSES = 6


class Family(NamedTuple):
    """A network of a family; `factory` is seeded and takes no arguments; shapes are those of its inputs."""

    name: str
    factory: Callable[[], nn.Module]
    input_shapes: tuple[tuple[int, ...], ...]

    def build(self) -> nn.Module:
        return self.factory().eval()

    def inputs(self, count: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
        """Return random inputs, count x shape each."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn((count, *shape), generator=generator) for shape in self.input_shapes)


def pooled_over(network: nn.Module, pool: str, size: int) -> nn.Module:
    """Let a final pool that is made for 224 pixels take what a smaller image leaves."""
    network.get_submodule(pool).kernel_size = size
    return network


def vgg_small() -> nn.Module:
    network = seeded(VGG, [[8], [12], [16, 16], [16, 16], [20, 20]], use_bn=True, num_classes=CLASSES)
    network.output.fc1 = seeded(VGGDense, 20, 24)
    network.output.fc2 = seeded(VGGDense, 24, 24)
    network.output.fc3 = seeded(nn.Linear, 24, CLASSES)
    return network


def resnet18_small() -> nn.Module:
    network = seeded(ResNet, [[8, 8], [12, 12], [16, 16], [24, 24]], 8, False, True, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def resnet50_small() -> nn.Module:
    network = seeded(ResNet, [[16], [24, 24], [32, 32], [48]], 8, True, False, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def preresnet_small() -> nn.Module:
    network = seeded(PreResNet, [[8], [12, 12], [16, 16], [24]], 8, False, True, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def resnext_small() -> nn.Module:
    network = seeded(ResNeXt, [[32], [32, 32], [64], [64]], 8, 4, 32, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def densenet_small() -> nn.Module:
    growth, width, stages = 6, 12, []
    for units in (2, 3, 2):
        stages.append([width + growth * (unit + 1) for unit in range(units)])
        width = stages[-1][-1] // 2
    return pooled_over(seeded(DenseNet, stages, 12, num_classes=CLASSES), "features.final_pool", 4)


def dpn_small() -> nn.Module:
    widths, growths = (16, 24, 32), (4, 6, 8)
    stages = [
        [width + growth * (3 + unit) for unit in range(units)]
        for width, growth, units in zip(widths, growths, (2, 2, 1), strict=True)
    ]
    options = {"rs": (16, 24, 32), "bws": widths, "incs": growths, "groups": 4, "b_case": False}
    network = seeded(
        DPN, stages, 8, 3, 1, for_training=False, test_time_pool=True, num_classes=CLASSES, **options
    )  # fmt: skip
    return pooled_over(network, "output.avg_pool", 3)


def mobilenetv1_small() -> nn.Module:
    network = seeded(MobileNet, [[16], [24], [32, 32], [48, 48], [64, 64], [80]], False, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def mobilenetv2_small() -> nn.Module:
    network = seeded(MobileNetV2, [[4], [6, 6], [8, 8], [12, 12, 16], [20, 24]], 8, 48, False, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def mobilenetv3_small() -> nn.Module:
    network = seeded(
        MobileNetV3, [[16], [16, 16], [24, 24], [32, 32], [48]],
        [[16], [48, 48], [48, 72], [96, 80], [144]], 16, 96, 80,
        [[1], [1, 1], [0, 0], [1, 1], [0]], [[1], [1, 1], [1, 1], [0, 0], [0]], [[0], [0, 0], [1, 1], [0, 1], [1]],
        False, False, num_classes=CLASSES,
    )  # fmt: skip
    return pooled_over(network, "features.final_pool", 2)


def efficientnet_small() -> nn.Module:
    return seeded(
        EfficientNet, [[8], [8, 8], [12, 12], [16, 20], [24]], 8, 48, [[3], [3, 3], [5, 5], [3, 5], [5]],
        [1, 2, 2, 2, 2], [[1], [6, 6], [6, 6], [6, 6], [6]], num_classes=CLASSES,
    )  # fmt: skip


def shufflenetv1_small() -> nn.Module:
    # Groups of at least four channels: one that is masked whole is a constant, and the batch norm behind it enlarges
    # what float32 rounds off that constant 300 times, masked or shrunk alike.
    network = seeded(ShuffleNet, [[48, 48], [96, 96], [144, 144]], 24, 3, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def shufflenetv2_small() -> nn.Module:
    network = seeded(ShuffleNetV2, [[16, 16], [24, 24], [32, 32]], 8, 48, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 2)


def senet_small() -> nn.Module:
    network = seeded(SENet, [[32], [48, 48], [64]], 16, 4, 64, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 4)


def regnetx_small() -> nn.Module:
    return seeded(RegNet, [[16], [24, 24], [32, 32], [48]], 8, [8, 8, 8, 8], False, num_classes=CLASSES)


def regnety_small() -> nn.Module:
    return seeded(RegNet, [[16], [24, 24], [32, 32], [48]], 8, [8, 8, 8, 8], True, num_classes=CLASSES)


def pnasnet_small() -> nn.Module:
    network = seeded(PNASNet, [[20, 20], [30]], 8, 10, num_classes=CLASSES)
    return pooled_over(network, "features.final_pool", 4)


def googlenet_small() -> nn.Module:
    return seeded(googlenet, 16, ("3a", "3b", "4a", "5b"), CLASSES)


def unet_small() -> nn.Module:
    return seeded(unet, 6, 3)


def two_inputs_small() -> nn.Module:
    return seeded(two_inputs, 8, CLASSES)


def branchynet_small() -> nn.Module:
    return seeded(branchynet, 8, CLASSES)


def _small(factory: Callable[[], nn.Module], *sizes: int, channels: Sequence[int] = (3,)) -> Family:
    shapes = tuple((count, size, size) for count, size in zip(channels, itertools.cycle(sizes), strict=False))
    return Family(factory.__name__, factory, shapes)


FAMILIES = (
    _small(vgg_small, 32),
    _small(resnet18_small, 64),
    _small(resnet50_small, 64),
    _small(preresnet_small, 64),
    _small(resnext_small, 64),
    _small(densenet_small, 64),
    _small(dpn_small, 64),
    _small(googlenet_small, 64),
    _small(mobilenetv1_small, 64),
    _small(mobilenetv2_small, 64),
    _small(mobilenetv3_small, 64),
    _small(efficientnet_small, 64),
    _small(shufflenetv1_small, 64),
    _small(shufflenetv2_small, 64),
    _small(senet_small, 64),
    _small(regnetx_small, 64),
    _small(regnety_small, 64),
    _small(pnasnet_small, 64),
    _small(unet_small, 32),
    _small(two_inputs_small, 32, channels=(3, 1)),
    _small(branchynet_small, 32),
)


def _published(name: str, module: str, **options: Any) -> Family:
    def factory() -> nn.Module:
        return seeded(getattr(importlib.import_module(f"pytorchcv.models.{module}"), name), **options)

    return Family(name, factory, ((3, 224, 224),))


FULL_FAMILIES = (
    _published("bn_vgg16", "vgg"),
    _published("resnet18", "resnet"),
    _published("resnet50", "resnet"),
    _published("preresnet18", "preresnet"),
    _published("resnext50_32x4d", "resnext"),
    _published("densenet121", "densenet"),
    _published("dpn68", "dpn"),
    _published("mobilenet_w1", "mobilenet"),
    _published("mobilenetv2_w1", "mobilenetv2"),
    _published("mobilenetv3_large_w1", "mobilenetv3"),
    _published("efficientnet_b0", "efficientnet"),
    _published("shufflenet_g3_w1", "shufflenet"),
    _published("shufflenetv2_w1", "shufflenetv2"),
    _published("senet16", "senet"),
    _published("seresnet50", "seresnet"),
    _published("regnetx002", "regnet"),
    _published("regnety002", "regnet"),
    Family("googlenet", lambda: seeded(googlenet), ((3, 224, 224),)),
    Family("unet", lambda: seeded(unet, 64, 4), ((3, 128, 128),)),
)


def random_masks(network: nn.Module, meaning: str, seed: int, share: float = 0.5) -> Masks:
    """Mask a share of the channels of every convolution and linear that does not make the outputs."""
    random = np.random.default_rng(seed)
    keep = {}
    outputs = output_layers(network)
    for name, module in network.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) or name in outputs:
            continue
        width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        keep[name] = random.permutation(width) >= min(round(width * share), width - 1)
    return Masks(keep, meaning)


def output_layers(network: nn.Module) -> set[str]:
    """Return the layers that the outputs show with no other layer between."""
    traced = fx.symbolic_trace(network)
    found: set[str] = set()
    seen: set[fx.Node] = set()
    todo = [node for node in traced.graph.nodes if node.op == "output"]
    while todo:
        node = todo.pop()
        layer = node.op == "call_module" and isinstance(
            traced.get_submodule(str(node.target)), (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        )
        if layer:
            found.add(str(node.target))
        elif node not in seen:
            todo += node.all_input_nodes
        seen.add(node)
    return found


def settle_masked(network: nn.Module, masks: Masks, inputs: tuple[torch.Tensor, ...], seed: int = 0) -> nn.Module:
    """Draw gamma and beta and let the running statistics be those of `inputs` under the masks; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
            module.momentum = None  # one pass: its mean, nothing is left of the initial variance 1
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=generator)
            module.bias.data = torch.rand(module.bias.shape, generator=generator) - 0.5
    network.eval()
    masked = masked_network(network, masks, inputs if len(inputs) > 1 else inputs[0]).train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws
        masked(*inputs)
        moved = dict(masked.named_buffers())
        for name, buffer in network.named_buffers():
            buffer.copy_(moved[name])
    return network.eval()
