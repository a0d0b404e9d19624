"""A shrunk chain of layers computes what the masked one computes, as a masking that shares nothing says."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import images, seeded, settle
from torch import nn

from exporter.masks.masks import Masks
from exporter.shrinking.shrink import shrink
from exporter.shrinking.slice_modules import apply_shrink_plan

INPUT_SHAPE = (3, 9, 8)
ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.GELU, nn.ELU, nn.Tanh, nn.SiLU, nn.PReLU,
)  # fmt: skip


# An implementation of masking that shares nothing with the one in exporter: modules in a loop, in float64.


@dataclass(frozen=True)
class DrawnChain:
    """A chain network; `ends` maps the last module of a layer (its activation, if it has one) to the layer."""

    network: nn.Module
    ends: dict[str, str]
    channels: dict[str, int]


class Chain(nn.Module):
    """Convolutions, a flatten in one of its three forms, linears."""

    def __init__(self, body: list[nn.Module], flatten: str, head: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(OrderedDict((f"b{i}", module) for i, module in enumerate(body)))
        self.flatten = nn.Flatten() if flatten == "module" else None
        self.by_view = flatten == "view"
        self.head = nn.Sequential(OrderedDict((f"h{i}", module) for i, module in enumerate(head)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        if self.flatten is not None:
            x = self.flatten(x)
        else:
            x = x.view(x.size(0), -1) if self.by_view else torch.flatten(x, 1)
        return self.head(x)


def masked_outputs(chain: DrawnChain, masks: Masks, inputs: torch.Tensor) -> np.ndarray:
    """Return the outputs of `chain` under `masks`, in float64."""
    network = copy.deepcopy(chain.network).double()
    x = inputs.double()
    with torch.no_grad():
        if masks.meaning == "weight":
            for layer, keep in masks.keep.items():
                module = network.get_submodule(layer)
                module.weight[~torch.from_numpy(keep)] = 0
                if module.bias is not None:
                    module.bias[~torch.from_numpy(keep)] = 0
        for part in ("body", "head"):
            x = x.reshape(len(x), -1) if part == "head" else x
            for name, module in getattr(network, part).named_children():
                x = module(x)
                layer = chain.ends.get(f"{part}.{name}")
                if masks.meaning == "channel" and layer in masks.keep:
                    x = x * torch.from_numpy(masks.keep[layer]).double().reshape(1, -1, *[1] * (x.ndim - 2))
    return x.numpy()


@st.composite
def chains(draw) -> DrawnChain:
    """Draw a chain CNN, with its batch-norm statistics recalibrated."""
    flag = st.booleans()
    parts: dict[str, list[nn.Module]] = {"body": [], "head": []}
    ends: dict[str, str] = {}
    channels: dict[str, int] = {}

    def add(part: str, module: nn.Module) -> str:
        parts[part].append(module)
        return f"{part}.{part[0]}{len(parts[part]) - 1}"

    def activation(width: int) -> nn.Module:
        kind = draw(st.sampled_from(ACTIVATIONS))
        if kind is nn.PReLU:
            return nn.PReLU(draw(st.sampled_from([1, width])), init=0.3)
        return kind()

    def pool() -> nn.Module:
        return draw(
            st.sampled_from(
                [
                    nn.MaxPool2d(2),
                    nn.MaxPool2d(3, stride=2, padding=1),
                    nn.AvgPool2d(2),
                    nn.AvgPool2d(3, stride=1, padding=1),
                    nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
                    nn.AvgPool2d(2, divisor_override=3),
                ]
            )
        )

    def layer(part: str, module: nn.Module, width: int) -> str:
        """Add a weighted module with what may stand behind it, in any usual order; return its name if nothing does."""
        name = end = add(part, module)
        norm = nn.BatchNorm2d if part == "body" else nn.BatchNorm1d
        pooled_first = part == "body" and draw(st.integers(0, 5)) == 0 and size(parts["body"])[-2:].numel() > 8
        if pooled_first:
            add(part, pool())
        followers = draw(st.sampled_from(["", "n", "a", "na", "an", "dna", "nda", "nan"]))
        for follower in followers:
            if follower == "n":
                end = add(part, norm(width, affine=draw(st.integers(0, 3)) > 0))
            elif follower == "a":
                end = add(part, activation(width))
            else:
                add(part, nn.Dropout(0.2))
        ends[end] = name
        channels[name] = width
        return "" if followers else name

    def size(body: list[nn.Module]) -> torch.Size:
        with torch.no_grad():
            return nn.Sequential(*copy.deepcopy(body)).eval()(torch.zeros(1, *INPUT_SHAPE)).shape

    def build() -> nn.Module:
        width = INPUT_SHAPE[0]
        for _ in range(draw(st.integers(1, 3))):
            before, width = width, draw(st.integers(2, 5))
            least = min(size(parts["body"])[2:]) if parts["body"] else min(INPUT_SHAPE[1:])
            kernel = draw(st.sampled_from([1, 3] if least >= 3 else [1]))
            dilation = draw(st.sampled_from([1, 2])) if least >= 5 and kernel == 3 else 1
            convolution = nn.Conv2d(
                before, width, kernel, padding=draw(st.integers(0, kernel // 2)), dilation=dilation,
                stride=draw(st.sampled_from([1, 2])) if least >= 6 else 1, bias=draw(flag),
            )  # fmt: skip
            alone = layer("body", convolution, width)
            if min(size(parts["body"])[2:]) >= 4 and draw(flag):
                add("body", pool())
                if draw(st.integers(0, 3)) == 0:
                    norm = add("body", nn.BatchNorm2d(width))
                    if alone:  # the first batch norm behind a convolution is its own, be it behind a pool
                        del ends[alone]
                        ends[norm] = alone
        if draw(flag):
            add("body", draw(st.sampled_from([nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Dropout2d(0.2)])))
        features = size(parts["body"])[1:].numel()
        if draw(st.integers(0, 3)) == 0:
            add("head", nn.BatchNorm1d(features))
            if draw(flag):
                add("head", nn.ReLU())
        for _ in range(draw(st.integers(0, 2))):
            width = draw(st.integers(3, 6))
            layer("head", nn.Linear(features, width, bias=draw(flag)), width)
            features = width
        add("head", nn.Linear(features, 4))
        return Chain(parts["body"], draw(st.sampled_from(["function", "view", "module"])), parts["head"])

    seed = draw(st.integers(0, 1000))
    network = settle(seeded(build, seed=seed), INPUT_SHAPE, seed)
    return DrawnChain(network, ends, channels)


@st.composite
def chains_with_masks(draw) -> tuple[DrawnChain, Masks]:
    chain = draw(chains())
    keep = {}
    for name, width in chain.channels.items():
        if draw(st.integers(0, 3)) > 0:
            entries = draw(st.lists(st.booleans(), min_size=width, max_size=width).filter(any))
            keep[name] = np.array(entries)
    return chain, Masks(keep, draw(st.sampled_from(["channel", "weight"])))


def spread(outputs: np.ndarray) -> float:
    return float(np.ptp(outputs, axis=0).max())


@settings(max_examples=50)
@given(chains_with_masks())
def test_any_chain_shrinks_to_what_its_masks_say(case: tuple[DrawnChain, Masks]) -> None:
    check_shrinks(*case)


@pytest.mark.full
@settings(max_examples=2_000)
@given(chains_with_masks())
def test_any_of_many_chains_shrinks_to_what_its_masks_say(case: tuple[DrawnChain, Masks]) -> None:
    check_shrinks(*case)


def check_shrinks(chain: DrawnChain, masks: Masks) -> None:
    """Compare the shrunk chain with the masked one, and its sizes with the masks."""
    inputs = images(INPUT_SHAPE)
    expected = masked_outputs(chain, masks, inputs)
    assume(spread(expected) > 2e-4 * np.abs(expected).max())  # else nothing can be proven, and it says so
    shrunk = shrink(chain.network, masks, inputs)
    in_double = apply_shrink_plan(copy.deepcopy(chain.network).double(), shrunk.plan)
    with torch.no_grad():
        outputs = in_double(inputs.double()).numpy()
        as_it_runs = shrunk.network(inputs).numpy()
    assert np.abs(outputs - expected).max() / spread(expected) < 1e-9
    assert np.abs(as_it_runs - expected).max() / spread(expected) < 1e-3
    stays: Counter[str] = Counter()
    for item in shrunk.plan.kept_although_masked:
        stays[item.layer] += len(item.channels)
    for size in shrunk.sizes:
        keep = masks.keep.get(size.name, np.ones(size.channels_before, bool))
        assert size.channels_after <= keep.sum() + stays[size.name]
        assert shrunk.network.get_submodule(size.name).weight.shape[0] == size.channels_after
