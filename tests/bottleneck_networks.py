"""Networks of the usual families with every clean cut that a bottleneck can go to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import onnx
import torch
from cifar_networks import densenet, mobilenet_v2, resnet18
from numpy.typing import NDArray
from own_networks import branchynet
from torch import nn

from exporter.bottleneck.design import BottleneckDesign
from exporter.layers.candidates import Layer
from exporter.layers.export import export
from exporter.models.vgg import vgg16
from exporter.onnx_graphs.session import open_session, run

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet18(8, 2),
    "mobilenet_v2": lambda: mobilenet_v2(0.25, 3),
    "densenet": lambda: densenet(4, 2),
    "vgg16": lambda: vgg16([8] * 13, classes=10),
    "early exits": lambda: branchynet(8, 6),
}


class Opened(NamedTuple):
    """A network, inputs for it, and the layers of its clean cuts with what the exported graph holds there."""

    network: nn.Module
    inputs: torch.Tensor
    layers: list[Layer]
    features: dict[str, NDArray[Any]]


def settled(network: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Let batch norms see the inputs, so that outputs are neither tiny nor huge."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(inputs)
    return network.eval()


def features_behind(model: onnx.ModelProto, layers: list[Layer], inputs: torch.Tensor) -> dict[str, NDArray[Any]]:
    """Return what the exported graph holds behind each layer."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    known = {value.name for value in whole.graph.output}
    whole.graph.output.extend(onnx.ValueInfoProto(name=one.tensor) for one in layers if one.tensor not in known)
    names = [value.name for value in whole.graph.output]
    made = dict(zip(names, run(open_session(whole, "disabled"), [inputs.numpy()]), strict=True))
    return {one.name: made[one.tensor] for one in layers}


def opened(name: str) -> Opened:
    """Return one of NETWORKS with seeded weights."""
    torch.manual_seed(0)
    inputs = torch.randn(16, 3, 32, 32) * torch.linspace(0.3, 3, 16)[:, None, None, None]
    network = settled(NETWORKS[name](), inputs)
    exported = export(network, inputs)
    layers = [layer for layer in exported.layers if layer.clean]
    return Opened(network, inputs, layers, features_behind(exported.model, layers, inputs))


def small(shape: tuple[int, ...]) -> BottleneckDesign:
    """Return a design that a feature of this shape can have."""
    return BottleneckDesign(2 if len(shape) == 3 and min(shape[1:]) > 1 else 1, max(1, shape[0] // 3), 3)
