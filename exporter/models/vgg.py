"""VGG-16 in the CIFAR layout, with the layer names of the paper: conv1_1 ... conv5_3, pool1 ... pool5."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
FULL_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LAYER_NAMES = tuple(
    f"conv{block}_{index}"
    for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)
    for index in range(1, count + 1)
)


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions with batch norm in five pooled blocks, and one linear classifier.

    Simonyan & Zisserman 2015, configuration D, as commonly adapted to 32x32 images; larger ones by strides.
    """

    def __init__(self, widths: Sequence[int], classes: int, input_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        remaining, steps = iter(widths), iter(strides)
        before = input_channels
        for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1):
            for index in range(1, count + 1):
                width = next(remaining)
                layers[f"conv{block}_{index}"] = nn.Conv2d(before, width, 3, stride=next(steps, 1), padding=1)
                layers[f"bn{block}_{index}"] = nn.BatchNorm2d(width)
                layers[f"relu{block}_{index}"] = nn.ReLU(inplace=True)
                before = width
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(before, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores, N x classes, for `images`, N x input_channels x height x width, float32."""
        return self.classifier(torch.flatten(self.features(images), 1))  # type: ignore[no-any-return]


def vgg16(
    widths: Sequence[int] = FULL_WIDTHS, classes: int = 10, input_channels: int = 3, strides: Sequence[int] = ()
) -> VGG16:
    """Return an untrained VGG-16 with the given number of filters per convolution.

    `widths`: 13 positive numbers, in the order of `LAYER_NAMES`. `strides`: of the first convolutions; the others have
    1. Images have 32 times the product of the strides, or more but less than twice as many, pixels in height and width.
    Raises ValueError otherwise.
    """
    if len(widths) != len(LAYER_NAMES) or any(width < 1 for width in widths):
        raise ValueError(f"widths must be {len(LAYER_NAMES)} positive numbers, not {list(widths)}")
    if len(strides) > len(LAYER_NAMES) or any(stride < 1 for stride in strides):
        raise ValueError(f"strides must be at most {len(LAYER_NAMES)} positive numbers, not {list(strides)}")
    return VGG16(widths, classes, input_channels, strides)
