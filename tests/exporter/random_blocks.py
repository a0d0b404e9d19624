"""The blocks that random graphs are made of: those of the usual CNN families, small, in random variants."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from graph_builder import FOLLOWERS, Builder, pool
from moving_blocks import divided, padded, pixel_shuffle, shuffle_v1, shuffle_v2, transposed, u_shape, upsample
from torch import nn
from torch.nn import functional


def plain(b: Builder, x: int) -> int:
    size = b.size(x)
    kernel = b.pick(1, 3) if size > 2 else 1
    dilation = b.pick(1, 1, 2) if size > 4 and kernel == 3 else 1
    padding = b.pick(0, dilation, dilation) if kernel == 3 and size > 2 * dilation + 1 else kernel // 2 * dilation
    stride = b.pick(1, 1, 2) if size > 5 else 1
    if kernel == 3 and padding and b.chance(8):
        return b.layer(x, b.width(), followers=b.pick(*FOLLOWERS), padding_mode=b.pick("reflect", "replicate"))
    return b.layer(x, b.width(), kernel, b.pick(*FOLLOWERS), stride=stride, padding=padding, dilation=dilation)


def residual(b: Builder, x: int) -> int:
    width = b.channels(x)
    if b.chance(2):  # bottleneck, with groups where they fit
        middle = b.width(2)
        y = b.layer(b.layer(x, middle, 1), middle, groups=b.pick(1, 2))
        y = b.layer(y, width, 1, b.pick("n", "n", ""))
    else:
        y = b.layer(b.layer(x, b.width()), width, followers=b.pick("n", "n", "na", ""))
    y = b.sum(y, x)
    return y if b.chance(4) else b.activation(y)


def projected(b: Builder, x: int) -> int:
    width, stride = b.width(), b.pick(1, 2) if b.size(x) > 3 else 1
    y = b.layer(b.layer(x, b.width(), stride=stride), width, followers="n")
    if stride == 2 and b.chance(2):
        x, stride = b.module("pool", nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), x, "pool"), 1
    return b.activation(b.sum(y, b.layer(x, width, 1, b.pick("n", ""), stride=stride)))


def preactivated(b: Builder, x: int) -> int:
    y = b.follow(x, "na")
    shortcut, width = x, b.channels(x)
    if b.chance(2):
        width = b.width()
        shortcut = b.conv(y, width, 1)
    return b.sum(b.conv(b.follow(b.conv(y, b.width()), "na"), width), shortcut)


def squeeze_and_excite(b: Builder, x: int) -> int:
    width, gates = b.channels(x), (nn.Sigmoid, nn.Hardsigmoid, torch.sigmoid, functional.hardsigmoid)
    gate = b.pick(*gates)
    y = b.pick(
        lambda: b.module("pool", nn.AdaptiveAvgPool2d(1), x, "pool"),
        lambda: b.call(partial(torch.mean, dim=(2, 3), keepdim=True), x),
        lambda: b.call(partial(functional.adaptive_avg_pool2d, output_size=(1, 1)), x, kind="pool"),
    )()
    if b.chance(2):
        y = b.conv(b.relu(b.conv(y, b.width(), 1)), width, 1)
    else:
        y = b.linear(b.relu(b.linear(b.call(partial(torch.flatten, start_dim=1), y), b.width())), width)
        y = b.call(b.pick(unflatten_by_unsqueeze, partial(unflatten_by_view, channels=width)), y)
    y = b.module("gate", gate(), y, "activation") if isinstance(gate, type) else b.call(gate, y, kind="activation")
    return b.call(operator.mul, *b.pick((x, y), (y, x)))


def unflatten_by_unsqueeze(x: Any) -> Any:
    return x.unsqueeze(2).unsqueeze(3)


def unflatten_by_view(x: Any, channels: int) -> Any:
    return x.view(-1, channels, 1, 1)


def dense(b: Builder, x: int) -> int:
    values = [x]
    for _ in range(b.pick(1, 2)):
        y = b.joined(*values) if len(values) > 1 else x
        y = b.follow(y, "na")
        if b.chance(2):
            y = b.layer(y, b.width(), 1)
        values.append(b.conv(y, b.width(most=4)))
    return b.joined(*values)


def inception(b: Builder, x: int) -> int:
    branches = [
        lambda: b.layer(x, b.width(most=4), 1),
        lambda: b.layer(b.layer(x, b.width(), 1), b.width(most=4)),
        lambda: b.layer(b.layer(b.layer(x, b.width(), 1), b.width()), b.width(most=4)),
        lambda: b.layer(b.module("pool", nn.MaxPool2d(3, 1, 1), x, "pool"), b.width(most=4), 1),
        lambda: b.module("pool", nn.AvgPool2d(3, 1, 1), x, "pool"),
    ]
    chosen = b.random.permutation(len(branches))[: b.random.integers(2, 5)]
    return b.joined(*(branches[index]() for index in chosen))


def separable(b: Builder, x: int) -> int:
    width = b.channels(x)
    times = b.pick(1, 1, 2)
    stride = b.pick(1, 2) if b.size(x) > 3 else 1
    return b.layer(
        b.layer(x, times * width, followers=b.pick("na", "n", ""), groups=width, stride=stride), b.width(), 1
    )


def inverted(b: Builder, x: int) -> int:
    width = b.pick(b.channels(x), b.width())
    middle = 2 * b.channels(x)
    y = b.layer(b.layer(x, middle, 1), middle, groups=middle)
    if b.chance(2):
        y = squeeze_and_excite(b, y)
    y = b.layer(y, width, 1, "n")
    return b.sum(x, y) if width == b.channels(x) else y


def grouped(b: Builder, x: int) -> int:
    groups = b.pick(2, 2, 4)
    x = b.divisible(x, groups)
    return b.layer(x, b.width(groups), b.pick(1, 3), b.pick(*FOLLOWERS), groups=groups, dilation=b.pick(1, 2))


def group_norm(b: Builder, x: int) -> int:
    groups = b.pick(1, 2, 2)
    y = b.conv(x, b.width(2), b.pick(1, 3))
    y = b.module("gn", nn.GroupNorm(groups, b.channels(y)), y)
    return b.activation(y)


def layer_norm(b: Builder, x: int) -> int:
    y = b.call(partial(torch.permute, dims=(0, 2, 3, 1)), b.layer(x, b.width(), followers=b.pick("", "na")))
    y = b.module("ln", nn.LayerNorm(b.shape(y)[-1:]), y)
    return channels_first(b, y)


def channels_first(b: Builder, x: int) -> int:
    """Permute back, contiguous as views need it."""
    x = b.call(b.pick(partial(torch.permute, dims=(0, 3, 1, 2)), operator.methodcaller("permute", 0, 3, 1, 2)), x)
    return b.call(operator.methodcaller("contiguous"), x, kind="identity")


def convnext(b: Builder, x: int) -> int:
    width = b.channels(x)
    y = b.call(partial(torch.permute, dims=(0, 2, 3, 1)), b.conv(x, width, groups=width))
    y = b.linear(b.module("ln", nn.LayerNorm(width), y), 2 * width)
    y = b.linear(b.module("act", nn.GELU(), y, "activation"), width)
    y = b.with_parameter(operator.mul, y, (width,))
    return b.sum(x, channels_first(b, y))


def instance_norm(b: Builder, x: int) -> int:
    if b.size(x) < 2:
        return plain(b, x)
    y = b.conv(x, b.width())
    return b.activation(b.module("inorm", nn.InstanceNorm2d(b.channels(y), affine=b.pick(True, False)), y))


def scaled(b: Builder, x: int) -> int:
    y = b.layer(x, b.channels(x), followers=b.pick("na", "n", "a"))
    y = b.with_parameter(b.pick(operator.mul, operator.add), y, b.pick((1, b.channels(x), 1, 1), (b.channels(x), 1, 1)))
    return b.sum(y, x) if b.chance(2) else b.relu(y)


def shared(b: Builder, x: int) -> int:
    first = b.conv(x, b.channels(x))
    y = b.follow(first, b.pick("na", "a"))
    second = b.again(y, first)
    if b.chance(2) and y - first == 2 and b.program.steps[y - b.program.inputs].module:
        return b.again(b.again(second, first + 1), y)
    return b.follow(second, b.pick("na", "a", ""))


def gated(b: Builder, x: int) -> int:
    x = b.layer(x, b.width(), followers="n")
    if b.chance(3):
        y = b.call(functional.relu6, b.call(add_three, x), kind="activation")
        return b.call(divide_by_six, b.call(operator.mul, x, y))
    if b.chance(2):
        return b.call(operator.mul, x, b.call(torch.sigmoid, x, kind="activation"))
    gate = b.call(torch.sigmoid, b.conv(x, b.channels(x), 1), kind="activation")
    return b.call(torch.mul, x, gate)


def add_three(x: Any) -> Any:
    return x + 3.0


def divide_by_six(x: Any) -> Any:
    return x / 6.0


def second_input(b: Builder, x: int) -> int:
    if b.second_used:
        return plain(b, x)
    b.second_used = True
    same = b.chance(2)
    y = b.layer(1, b.channels(x) if same else b.width(), followers=b.pick("na", "n", ""))
    y = b.module("pool", nn.AdaptiveAvgPool2d(tuple(b.shape(x)[2:])), y, "pool")
    return b.sum(x, y) if same else b.joined(x, y)


def early_exit(b: Builder, x: int) -> int:
    x = plain(b, x)
    b.exits.append(head(b, x, 3))
    return x


def head(b: Builder, x: int, classes: int) -> int:
    """Add a classifier: global pool or flatten in one of its forms, and linears, or a convolution with a mean."""
    if b.chance(6):
        return b.call(partial(torch.mean, dim=(2, 3)), b.conv(x, classes, 1))
    flatten = b.pick(partial(torch.flatten, start_dim=1), flat_by_view, flat_by_reshape, nn.Flatten)
    pools = (
        lambda: b.module("pool", nn.AdaptiveAvgPool2d(1), x, "pool"),
        lambda: b.module("pool", nn.AdaptiveAvgPool2d(2), x, "pool"),
        lambda: b.call(partial(functional.adaptive_avg_pool2d, output_size=1), x, kind="pool"),
        lambda: b.module("pool", nn.AdaptiveMaxPool2d((1, 1)), x, "pool"),
        lambda: x,
        lambda: x,
        lambda: b.call(b.pick(partial(torch.mean, dim=(2, 3)), operator.methodcaller("mean", [2, 3])), x),
    )
    y = b.pick(*pools)()
    if len(b.shape(y)) == 4:
        y = b.module("flat", nn.Flatten(), y) if flatten is nn.Flatten else b.call(flatten, y)
    if b.chance(6):
        y = b.follow(y, b.pick("n", "na"))
    for _ in range(b.pick(0, 0, 1, 2)):
        y = b.follow(b.linear(y, b.width()), b.pick("a", "na", "ad", "", "an"))
    return b.linear(y, classes)


def flat_by_view(x: Any) -> Any:
    return x.view(x.size(0), -1)


def flat_by_reshape(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


BLOCKS: dict[str, Callable[[Builder, int], int]] = {
    block.__name__: block
    for block in (
        plain, residual, projected, preactivated, squeeze_and_excite, dense, inception, shuffle_v2, shuffle_v1,
        separable, inverted, grouped, transposed, upsample, u_shape, pixel_shuffle, pool, padded, group_norm,
        layer_norm, convnext, instance_norm, scaled, shared, gated, divided, second_input, early_exit,
    )
}  # fmt: skip
