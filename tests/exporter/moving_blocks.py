"""Blocks of random graphs that move channels or positions: shuffles, splits, paddings, changes of size."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from graph_builder import FOLLOWERS, Builder
from torch import nn
from torch.nn import functional


def shuffle_by_size(x: Any, groups: int) -> Any:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


def shuffle_by_shape(x: Any, groups: int) -> Any:
    x = x.reshape(x.shape[0], groups, x.shape[1] // groups, x.shape[2], x.shape[3])
    return x.transpose(2, 1).flatten(1, 2)


def shuffle_by_permute(x: Any, groups: int) -> Any:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, -1, height, width).permute(0, 2, 1, 3, 4)
    return x.reshape(-1, channels, height, width)


def shuffled(b: Builder, x: int, groups: int) -> int:
    return b.call(partial(b.pick(shuffle_by_size, shuffle_by_shape, shuffle_by_permute), groups=groups), x)


def shuffle_v2(b: Builder, x: int) -> int:
    x = b.divisible(x, 2)
    half = b.channels(x) // 2
    if b.size(x) > 3 and b.chance(3):
        left = b.layer(b.conv(x, 2 * half, stride=2, groups=2 * half), half, 1)
        right = b.layer(b.layer(b.layer(x, half, 1), half, followers="n", stride=2, groups=half), half, 1)
        return shuffled(b, b.joined(left, right), 2)
    halves = b.call(
        b.pick(partial(torch.chunk, chunks=2, dim=1), partial(torch.split, split_size_or_sections=half, dim=1)), x
    )
    left, right = b.part(halves, 0), b.part(halves, 1)
    right = b.layer(b.layer(b.layer(right, half, 1), half, followers="n", groups=half), half, 1)
    return shuffled(b, b.joined(left, right), 2)


def shuffle_v1(b: Builder, x: int) -> int:
    groups = b.pick(2, 2, 3, 4)
    x = b.divisible(x, groups)
    width, middle = b.channels(x), groups * b.pick(2, 3)
    y = shuffled(b, b.layer(x, middle, 1, groups=groups), groups)
    y = b.layer(b.layer(y, middle, followers="n", groups=middle), width, 1, "n", groups=groups)
    return b.relu(b.sum(y, x))


def transposed(b: Builder, x: int) -> int:
    groups = b.pick(1, 1, 2)
    x = b.divisible(x, groups) if groups > 1 else x
    kernel, stride = b.pick((2, 2), (3, 1), (4, 2), (3, 2)) if b.size(x) < 7 else (3, 1)
    made = nn.ConvTranspose2d(
        b.channels(x), b.width(groups), kernel, stride, padding=b.pick(0, 1), groups=groups,
        output_padding=b.pick(0, stride - 1), bias=b.pick(True, False),
    )  # fmt: skip
    return b.follow(b.module("deconv", made, x, "convolution"), b.pick(*FOLLOWERS))


def enlarged(b: Builder, x: int) -> int:
    return b.pick(
        lambda: b.module("up", nn.Upsample(scale_factor=2), x),
        lambda: b.module("up", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=b.pick(True, False)), x),
        lambda: b.call(partial(functional.interpolate, scale_factor=2, mode="nearest"), x),
        lambda: b.call(partial(functional.interpolate, scale_factor=2, mode="bilinear", align_corners=False), x),
    )()


def upsample(b: Builder, x: int) -> int:
    if b.size(x) > 6:
        x = b.call(partial(functional.max_pool2d, kernel_size=2), x, kind="pool")
    return b.layer(enlarged(b, x), b.width(), followers=b.pick(*FOLLOWERS))


def as_large_as(x: Any, other: Any) -> Any:
    return functional.interpolate(x, size=other.shape[2:], mode="bilinear", align_corners=True)


def u_shape(b: Builder, x: int) -> int:
    if b.size(x) < 4:
        return b.layer(x, b.width())
    skip = b.layer(x, b.width(most=5))
    y = b.layer(b.module("pool", nn.MaxPool2d(2), skip, "pool"), b.width())
    if b.chance(2) and not any(size % 2 for size in b.shape(skip)[2:]):
        made = nn.ConvTranspose2d(b.channels(y), b.width(most=5), 2, 2)
        y = b.module("up", made, y, "convolution")
    else:
        y = b.call(as_large_as, y, skip)
    return b.layer(b.joined(skip, y), b.width())


def pixel_shuffle(b: Builder, x: int) -> int:
    y = b.layer(x, 4 * b.width(most=3), followers=b.pick("", "na", "a"), stride=2 if b.size(x) > 5 else 1)
    if b.chance(2):
        return b.call(partial(functional.pixel_shuffle, upscale_factor=2), y)
    return b.module("pixels", nn.PixelShuffle(2), y)


def padded(b: Builder, x: int) -> int:
    y = b.pick(
        lambda: b.module("pad", nn.ZeroPad2d((1, 2, 0, 1)), x),
        lambda: b.call(partial(functional.pad, pad=(1, 0, 1, 1)), x),
        lambda: b.call(partial(functional.pad, pad=(0, 1, 0, 1), mode="constant", value=0.0), x),
    )()
    return b.layer(y, b.width(), followers=b.pick(*FOLLOWERS), padding=0 if b.size(x) > 2 else 1)


def divided(b: Builder, x: int) -> int:
    """Parts of the channels take different ways: cross-stage partial, Res2Net and dual-path units."""
    x = b.layer(x, b.width(2), followers=b.pick("na", "n")) if b.chance(2) or b.channels(x) < 2 else x
    width = b.channels(x)
    first = int(b.random.integers(1, width))
    left, right = pieces(b, x, first)
    way = b.pick("partial", "res2net", "dual")
    if way == "partial":
        return b.joined(left, b.layer(right, b.width(most=4)))
    if way == "res2net":
        left = b.layer(left, width - first)
        return b.joined(left, b.layer(b.sum(right, left), width - first))
    grown = b.conv(b.follow(x, "na"), width)
    grown_left, grown_right = pieces(b, grown, first)
    return b.joined(b.sum(grown_left, left), right, grown_right)


def pieces(b: Builder, x: int, first: int) -> tuple[int, int]:
    """Return the first channels and the others, split or sliced."""
    if b.chance(2):
        return b.call(partial(channels_of, start=0, stop=first), x), b.call(partial(channels_of, start=first), x)
    both = b.call(partial(torch.split, split_size_or_sections=[first, b.channels(x) - first], dim=1), x)
    return b.part(both, 0), b.part(both, 1)


def channels_of(x: Any, start: int, stop: int | None = None) -> Any:
    return x[:, start:stop]
