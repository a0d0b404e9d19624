"""What a graph does, counted from the PyTorch network that it was exported from, and kept when it is cut."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from small_networks import seeded, settle
from torch import nn

from benchmarks.prediction.kernels import Kernel, kernels_of
from exporter.cutting.cut import cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import EncodeSpecification
from exporter.layers.export import ExportedGraph, export
from jetson.errors import UnsupportedError

SHAPE = (3, 16, 16)
COUNTED = (nn.Conv2d, nn.Linear)


class Mixed(nn.Module):
    """Convolutions of each kind, batch norm, gated and plain activations, a sum, a concatenation, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.SiLU())
        self.grouped = nn.Conv2d(8, 6, 3, padding=1, stride=2, groups=2)
        self.odd = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.grouped(self.depthwise(x) + x)
        x = torch.cat([self.odd(x), x], dim=1)
        return self.classifier(torch.flatten(self.pool(x), 1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return settle(seeded(Mixed), SHAPE)


@pytest.fixture(scope="module")
def exported(network: nn.Module) -> ExportedGraph:
    return export(network, torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(0)))


def counted_by_hooks(network: nn.Module, samples: int) -> list[tuple[int, int, int]]:
    """Return MACs, bytes of features and bytes of weights of each weighted module, as PyTorch runs it."""
    found: list[tuple[int, int, int]] = []

    def count(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        each = prod(module.weight.shape[1:])  # what one number of the output sums up
        weights = module.weight.numel() + module.weight.shape[0]  # batch norm is folded into a bias
        found.append((output.numel() * each, 4 * (inputs[0].numel() + output.numel()), 4 * weights))

    handles = [item.register_forward_hook(count) for item in network.modules() if isinstance(item, COUNTED)]
    with torch.no_grad():
        network(torch.zeros((samples, *SHAPE)))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("batch", [1, 4])
def test_weighted_kernels_do_what_the_modules_do(network: nn.Module, exported: ExportedGraph, batch: int) -> None:
    kernels = [item for item in kernels_of(exported.model, batch) if item.weight_bytes]
    assert [(item.macs, item.moved_bytes, item.weight_bytes) for item in kernels] == counted_by_hooks(network, batch)
    assert [item.kind for item in kernels] == [
        "convolution", "depthwise convolution", "convolution", "convolution", "fully connected layer",
    ]  # fmt: skip
    assert [item.unaligned for item in kernels] == [False, False, False, True, False]


def test_batch_norm_and_activations_belong_to_the_kernel_before(exported: ExportedGraph) -> None:
    others = [item for item in kernels_of(exported.model) if not item.weight_bytes]
    feature = 4 * 8 * 16 * 16
    pooled = 4 * 12 * 8 * 8
    assert [(item.kind, item.moved_bytes) for item in others] == [
        ("elementwise operator", 3 * feature),  # the sum: two are read, one is written
        ("movement of data", 2 * pooled),
        ("pooling layer", pooled + 4 * 12),
    ]


def amounts(kernels: tuple[Kernel, ...]) -> Counter[tuple[object, ...]]:
    """Return the kernels without their places, and without what codes at a cut."""
    coding = ("encoding", "decoding")
    return Counter(
        (item.kind, item.macs, item.moved_bytes, item.weight_bytes, item.unaligned)
        for item in kernels
        if item.kind not in coding
    )


def test_head_and_tail_do_together_what_the_whole_does(exported: ExportedGraph) -> None:
    specification = EncodeSpecification("affine", 8, (0.0,), (0.1,), (10.0,))
    layers = [layer for layer in exported.layers if layer.clean and layer.tensor not in ("scores",)]
    assert len(layers) >= 5
    for layer in layers:
        halves = encode_halves(cut(exported.model, [layer.tensor]), [specification])
        head, tail = kernels_of(halves.head), kernels_of(halves.tail)
        assert amounts(head) + amounts(tail) == amounts(kernels_of(exported.model)), layer.name
        size = prod(layer.shape)
        assert [item.moved_bytes for item in head if item.kind == "encoding"] == [5 * size]  # float32 in, uint8 out
        assert [item.moved_bytes for item in tail if item.kind == "decoding"] == [5 * size]


def matmul(right: str) -> onnx.ModelProto:
    """Return a graph of one MatMul of 7x5 by 5x3, `right` a second input or a weight."""

    def of(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    weights = [helper.make_tensor("weight", TensorProto.FLOAT, [5, 3], [0.0] * 15)]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", right], ["product"], name="/MatMul")],
        "matmul",
        [of("left", 7, 5), *([of("other", 5, 3)] if right == "other" else [])],
        [of("product", 7, 3)],
        weights if right == "weight" else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def test_products_of_features_are_no_fully_connected_layers() -> None:
    assert kernels_of(matmul("weight"), 2) == (Kernel("fully connected layer", 0, 210, 2 * 4 * (35 + 21), 4 * 15),)
    assert kernels_of(matmul("other"), 2) == (Kernel("product of features", 0, 210, 2 * 4 * (35 + 15 + 21), 0),)


def test_a_feature_of_unknown_size_is_refused_by_name() -> None:
    model = matmul("weight")
    model.graph.node.append(helper.make_node("NonZero", ["product"], ["places"], name="/NonZero"))
    model.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, [3, None]))
    with pytest.raises(UnsupportedError, match=r"size of 'places' at NonZero '/NonZero' is not known"):
        kernels_of(model)
