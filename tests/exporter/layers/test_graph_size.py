"""The size of an exported graph, against sums by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from exporter.layers.export import export
from exporter.layers.graph_size import size_of
from exporter.onnx_graphs.weight_store import store_weights


def test_a_vgg_has_the_size_that_one_counts(settled_vgg: nn.Module, random_images: np.ndarray, tmp_path) -> None:
    model = export(settled_vgg, torch.from_numpy(random_images)).model
    convolutions = {name: m for name, m in settled_vgg.named_modules() if isinstance(m, nn.Conv2d)}
    sides = [32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2]
    macs = sum(m.weight.numel() * side**2 for m, side in zip(convolutions.values(), sides, strict=True))
    # Each batch norm goes into its convolution's bias.
    parameters = sum(m.weight.numel() + m.out_channels for m in convolutions.values()) + 16 * 10 + 10
    for graph in (model, store_weights(model, tmp_path)):
        size = size_of(graph)
        assert (size.macs, size.parameters) == (macs + 160, parameters)
        assert dict(size.widths) == {**{n: m.out_channels for n, m in convolutions.items()}, "classifier": 10}
        assert list(size.widths)[:2] == ["features.conv1_1", "features.conv1_2"]


class Mixed(nn.Module):
    """Depthwise and transposed convolutions, a linear layer used twice, and one over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2, bias=False)
        self.shared = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.relu(self.depthwise(x))).flatten(2).transpose(1, 2)
        return self.head(self.shared(torch.tanh(self.shared(x))))


def test_other_layers_count_as_they_run() -> None:
    torch.manual_seed(0)
    model = export(Mixed().eval(), torch.randn(16, 3, 8, 8)).model
    size = size_of(model)
    assert dict(size.widths) == {"depthwise": 6, "up": 4, "shared": 4, "shared_1": 4, "head": 5}
    assert size.macs == 64 * 6 * 9 + 64 * 6 * 4 * 4 + 256 * (2 * 16 + 20)
    assert size.parameters == (54 + 6) + 96 + (16 + 4) + (20 + 5)
