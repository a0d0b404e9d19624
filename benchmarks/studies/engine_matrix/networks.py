"""The networks of the matrix: as published, cut in the middle, with symbols of 8 bits between the halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.studies.peers.case_files import NetworkSource
from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import calibrate
from exporter.cutting.split import CutTensor, split
from exporter.encoding.specification import affine_specification
from exporter.layers.candidates import Layer
from exporter.layers.export import export

NETWORKS = tuple(
    NetworkSource(name, f"pytorchcv.models.{module}", function)
    for name, module, function in (
        ("VGG-16", "vgg", "vgg16"),
        ("ResNet-18", "resnet", "resnet18"),
        ("ResNet-50", "resnet", "resnet50"),
        ("MobileNetV2", "mobilenetv2", "mobilenetv2_w1"),
        ("DenseNet-121", "densenet", "densenet121"),
        ("EfficientNet-B0", "efficientnet", "efficientnet_b0"),
    )
)
_SAMPLES = 4


@dataclass(frozen=True)
class CutNetwork:
    """A network's head and tail; `head_inputs` (samples x shape, float32) and what the tail takes of them."""

    name: str
    layer: str
    head: onnx.ModelProto
    tail: onnx.ModelProto
    head_inputs: NDArray[np.float32]
    tail_inputs: NDArray[np.uint8]


def cut_in_the_middle(source: NetworkSource, seed: int = 0) -> CutNetwork:
    """Return the network of `source` with seeded weights, cut at the clean layer behind which half of the MACs lie.

    Raises CoopexportError when a parity check fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = source.build()
    inputs = torch.randn((_SAMPLES, *source.shape), generator=torch.Generator().manual_seed(seed + 1))
    exported = export(network, inputs)
    layer = _middle(exported.layers)
    images = inputs.numpy()
    clip = calibrate(exported.model, [layer.tensor], images, ClipSettings("minmax"))[layer.tensor]
    cut_tensor = CutTensor(layer.tensor, layer.shape, affine_specification(clip))
    halves = split(exported.model, [cut_tensor], images, source.name)
    return CutNetwork(source.name, layer.name, halves.encoded.head, halves.encoded.tail, images, halves.tail_inputs[0])


def _middle(layers: tuple[Layer, ...]) -> Layer:
    """Return the clean layer whose share of the MACs is nearest to one half."""
    total = sum(layer.macs for layer in layers)
    return min(
        (layer for layer in layers if layer.clean), key=lambda layer: abs(layer.macs_before + layer.macs - total / 2)
    )
