"""The VGG-16 that comes along is configuration D of Simonyan and Zisserman 2015, with batch norms, for 32x32 images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from exporter.models.vgg import vgg16


def by_hand(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return what the paper's table says: 3x3 convolutions, each with ReLU, and 2x2 maxima behind each block."""
    x = images
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for index in range(1, count + 1):
            conv, norm = (network.get_submodule(f"features.{kind}{block}_{index}") for kind in ("conv", "bn"))
            x = functional.conv2d(x, conv.weight, conv.bias, padding=1)
            x = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var + norm.eps).sqrt().view(-1, 1, 1)
            x = (x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
    return x.flatten(1) @ network.classifier.weight.T + network.classifier.bias


def test_it_computes_what_the_paper_describes() -> None:
    torch.manual_seed(0)
    network = vgg16(widths=[8, 8, 12, 12, 16, 16, 16, 20, 20, 20, 24, 24, 24], classes=10)
    with torch.no_grad():
        network(torch.randn(16, 3, 32, 32))  # statistics of batch norms
        network.eval()
        images = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(network(images), by_hand(network, images), rtol=1e-4, atol=1e-5)


def test_strides_shrink_larger_images_in_the_first_layers() -> None:
    network = vgg16(widths=[4] * 13, strides=(2, 2)).eval()
    assert [network.get_submodule(f"features.{name}").stride for name in ("conv1_1", "conv1_2", "conv2_1")] == [
        (2, 2),
        (2, 2),
        (1, 1),
    ]
    assert network(torch.randn(2, 3, 128, 128)).shape == (2, 10)


@pytest.mark.parametrize("strides", [(0,), (2, -1), (1,) * 14])
def test_strides_that_make_no_sense_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="strides must be at most 13 positive numbers"):
        vgg16(strides=strides)
