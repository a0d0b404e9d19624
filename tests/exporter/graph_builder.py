"""Records small networks step by step, in random variants."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from recorded_networks import OneInput, Program, Recorded, Step, TwoInputs
from torch import nn
from torch.nn import functional

RELUS: tuple[Any, ...] = (
    nn.ReLU, partial(nn.ReLU, inplace=True), torch.relu, functional.relu, operator.methodcaller("relu"),
    nn.ReLU6, functional.relu6,
)  # fmt: skip
OTHER_ACTIVATIONS: tuple[Any, ...] = (
    nn.LeakyReLU, nn.PReLU, partial(nn.PReLU, 0), nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU, nn.Sigmoid, nn.Tanh,
    nn.Hardsigmoid, nn.Softplus, nn.Mish, nn.SELU, nn.Hardtanh, partial(nn.GELU, approximate="tanh"), nn.CELU,
    torch.sigmoid, torch.tanh, functional.sigmoid, functional.leaky_relu, functional.silu, functional.hardswish,
    functional.gelu, functional.elu, functional.hardsigmoid, functional.softplus, functional.mish, functional.selu,
    functional.hardtanh, operator.methodcaller("sigmoid"), operator.methodcaller("tanh"),
)  # fmt: skip
FOLLOWERS = ("na", "na", "na", "an", "n", "a", "", "dna", "nda", "nan", "pna", "pa")
"""What stands behind a convolution: n batch norm, a activation, d dropout, p pool."""


class Builder:
    """Records a program and makes its modules; a value is the number by which the program knows it."""

    def __init__(self, random: np.random.Generator, two_inputs: bool) -> None:
        size = int(random.integers(6, 11))
        self.input_shapes = tuple((int(random.integers(3, 6)), size, size) for _ in range(1 + two_inputs))
        self.program = Program(len(self.input_shapes))
        self.network: Recorded = (TwoInputs if two_inputs else OneInput)(self.program, self.input_shapes)
        self.shapes: list[Any] = [torch.zeros(2, *shape) for shape in self.input_shapes]
        self.exits: list[int] = []
        self.second_used = False
        self.begin("stem", random)

    def begin(self, scope: str, random: np.random.Generator) -> None:
        """Start a block: its modules are children of `scope`, its choices come from `random`."""
        self.scope, self.random, self.counts = scope, random, dict[str, int]()

    def finish(self, output: int) -> Recorded:
        """Return the network with its outputs."""
        self.program.outputs = [output, *self.exits]
        if self.exits:
            self.program.form = self.pick("tuple", "list", "dict")
        return self.network

    def pick(self, *options: Any) -> Any:
        return options[self.random.integers(len(options))]

    def chance(self, one_in: int) -> bool:
        return int(self.random.integers(one_in)) == 0

    def shape(self, value: int) -> torch.Size:
        return self.shapes[value].shape

    def channels(self, value: int) -> int:
        return int(self.shape(value)[1])

    def size(self, value: int) -> int:
        """Return the smaller of height and width."""
        return int(min(self.shape(value)[2:]))

    def width(self, multiple: int = 1, most: int = 8) -> int:
        """Return a random number of channels."""
        return multiple * int(self.random.integers(max(1, 2 // multiple), most // multiple + 1))

    def add(self, step: Step) -> int:
        self.program.steps.append(step)
        self.shapes.append(self.network.run_step(step, self.shapes))
        return len(self.shapes) - 1

    def module(self, name: str, module: nn.Module, value: int, kind: str = "other") -> int:
        """Add a module with a name of its own and what it makes of `value`."""
        scope = self.network
        if not hasattr(scope, self.scope):
            scope.add_module(self.scope, nn.Module())
        self.counts[name] = self.counts.get(name, 0) + 1
        path = f"{self.scope}.{name}{self.counts[name]}"
        scope.get_submodule(self.scope).add_module(f"{name}{self.counts[name]}", module.eval())
        return self.add(Step(kind, (value,), path))

    def again(self, value: int, like: int) -> int:
        """Call the module that made the value `like` once more."""
        step = self.program.steps[like - self.program.inputs]
        return self.add(step._replace(inputs=(value,)))

    def call(self, function: Callable[..., Any], *values: int, kind: str = "other") -> int:
        return self.add(Step(kind, values, function=function))

    def with_parameter(self, function: Callable[..., Any], value: int, shape: Sequence[int]) -> int:
        """Combine a value with a new free parameter."""
        self.counts["free"] = self.counts.get("free", 0) + 1
        name = f"{self.scope}_free{self.counts['free']}"
        self.network.register_parameter(name, nn.Parameter(torch.rand(*shape) + 0.3))
        return self.add(Step("other", (value,), function=function, parameter=name))

    def conv(self, value: int, width: int, kernel: int = 3, stride: int = 1, groups: int = 1, **options: Any) -> int:
        """Add a convolution that keeps the size, but for its stride and what `options` say."""
        options.setdefault("padding", kernel // 2 * options.get("dilation", 1))
        options.setdefault("bias", bool(self.random.integers(2)))
        made = nn.Conv2d(self.channels(value), width, kernel, stride, groups=groups, **options)
        return self.module("conv", made, value, "convolution")

    def linear(self, value: int, width: int) -> int:
        made = nn.Linear(int(self.shape(value)[-1]), width, bias=bool(self.random.integers(2)))
        return self.module("fc", made, value, "linear")

    def norm(self, value: int) -> int:
        kind = nn.BatchNorm2d if len(self.shape(value)) == 4 else nn.BatchNorm1d
        return self.module("bn", kind(self.channels(value), affine=not self.chance(8)), value, "norm")

    def activation(self, value: int) -> int:
        kind = self.pick(*(RELUS if self.chance(2) else OTHER_ACTIVATIONS))
        if isinstance(kind, partial) and kind.func is nn.PReLU:
            return self.module("act", nn.PReLU(self.channels(value), init=0.3), value, "activation")
        if isinstance(kind, (type, partial)):
            return self.module("act", kind(), value, "activation")
        return self.call(kind, value, kind="activation")

    def relu(self, value: int) -> int:
        return self.call(functional.relu, value, kind="activation")

    def follow(self, value: int, followers: str) -> int:
        """Add what stands behind a convolution or linear."""
        for follower in followers:
            if follower == "n":
                value = self.norm(value)
            elif follower == "a":
                value = self.activation(value)
            elif follower == "p":
                value = pool(self, value)
            else:
                value = self.module("drop", self.pick(nn.Dropout(0.1), nn.Identity()), value, "identity")
        return value

    def layer(self, value: int, width: int, kernel: int = 3, followers: str = "na", **options: Any) -> int:
        return self.follow(self.conv(value, width, kernel, **options), followers)

    def divisible(self, value: int, by: int) -> int:
        """Return a value whose channels are a multiple of `by`."""
        width = self.channels(value)
        return value if width % by == 0 and width > by else self.layer(value, self.width(by), 1)

    def bounded(self, value: int) -> int:
        """Return a value that is small enough to go on with."""
        if self.channels(value) > 10:
            value = self.layer(value, self.width(), 1)
        if max(self.shape(value)[2:]) > 12:
            value = self.call(partial(functional.max_pool2d, kernel_size=2), value, kind="pool")
        return value

    def sum(self, first: int, second: int) -> int:
        """Add two values, in place where nothing else reads the first."""
        read = any(first in step.inputs for step in self.program.steps) or first < self.program.inputs
        step = self.program.steps[first - self.program.inputs]
        in_place = not read and bool(step.module) and step.kind in ("convolution", "norm")
        return self.call(self.pick(operator.add, torch.add, *[operator.iadd] * in_place), first, second)

    def joined(self, *values: int) -> int:
        """Concatenate channels."""
        return self.call(join if self.chance(2) else join_by_keyword, *values)

    def part(self, value: int, index: int) -> int:
        return self.call(partial(take, index=index), value)


def join(*values: Any) -> Any:
    return torch.cat(values, 1)


def join_by_keyword(*values: Any) -> Any:
    return torch.concat(list(values), dim=1)


def take(values: Any, index: int) -> Any:
    return values[index]


def pool(b: Builder, x: int) -> int:
    """Add a pool, with padding or without, that leaves at least two positions where there were three."""
    small = b.size(x) < 4
    options: tuple[Any, ...] = (
        nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        partial(functional.avg_pool2d, kernel_size=3, stride=1, padding=1),
    )
    if not small:
        options = (
            *options, nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.AvgPool2d(2),
            nn.AvgPool2d(3, stride=2, padding=1), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
            nn.AvgPool2d(2, divisor_override=3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AdaptiveAvgPool2d(2),
            partial(functional.max_pool2d, kernel_size=2), partial(functional.adaptive_avg_pool2d, output_size=3),
            nn.AdaptiveMaxPool2d(2), partial(functional.avg_pool2d, kernel_size=2),
        )  # fmt: skip
    made = b.pick(*options)
    if isinstance(made, nn.Module):
        return b.module("pool", made, x, "pool")
    return b.call(made, x, kind="pool")
