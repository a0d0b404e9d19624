"""A shrunk network computes what the masked one computes, whatever the chain, or is refused by name."""

from __future__ import annotations

import copy
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import Residual, images, seeded, settle
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from exporter.masked_network import masked_network
from exporter.masks import Masks
from exporter.models.vgg import LAYER_NAMES
from exporter.resize import apply_plan
from exporter.shrink import ShrinkOptions, prove_equal, shrink
from exporter.shrink_plan import ShrinkPlan, SilencePlan
from jetson.errors import CoopexportError

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


@settings(max_examples=150)
@given(chains_with_masks())
def test_any_chain_shrinks_to_what_its_masks_say(case: tuple[DrawnChain, Masks]) -> None:
    chain, masks = case
    inputs = images(INPUT_SHAPE)
    expected = masked_outputs(chain, masks, inputs)
    assume(spread(expected) > 2e-4 * np.abs(expected).max())  # else nothing can be proven, and it says so
    shrunk = shrink(chain.network, masks, inputs)
    in_double = apply_plan(copy.deepcopy(chain.network).double(), shrunk.plan)
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


def vgg_masks(meaning: str, seed: int = 0) -> Masks:
    random = np.random.default_rng(seed)
    keep = {}
    for index, name in enumerate(LAYER_NAMES):
        width = (8, 8, 12, 12, 16, 16, 16, 16, 16, 16, 16, 16, 16)[index]
        keep[f"features.{name}"] = random.permutation(width) < width // 2 + 1
    return Masks(keep, meaning)


@pytest.fixture(scope="module")
def inputs(random_images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(random_images)


def test_vgg_with_channel_masks_has_the_dense_sizes_of_its_masks(settled_vgg: nn.Module, inputs: torch.Tensor) -> None:
    masks = vgg_masks("channel")
    before = copy.deepcopy(settled_vgg.state_dict())
    shrunk = shrink(settled_vgg, masks, inputs)
    checks = {check.check: check for check in shrunk.parity}
    assert checks["shrink"].error < checks["shrink"].bound == 1e-9
    assert checks["shrink-float32"].error < checks["shrink-float32"].bound == 1e-3
    assert checks["shrink"].samples == len(inputs)
    assert shrunk.plan.kept_although_masked == ()
    width, parameters = 3, 0
    for name, size in zip(LAYER_NAMES, shrunk.sizes, strict=False):
        kept = int(masks.keep[f"features.{name}"].sum())
        assert shrunk.network.get_submodule(f"features.{name}").weight.shape == (kept, width, 3, 3)
        norm = shrunk.network.get_submodule(f"features.bn{name[4:]}")
        assert norm.running_var.shape == norm.weight.shape == (kept,)
        assert size.parameters_after == kept * width * 9 + kept
        assert size.macs_after * size.parameters_before > 0
        parameters, width = parameters + size.parameters_after, kept
    assert shrunk.network.classifier.weight.shape == (10, width)
    assert shrunk.sizes[0].macs_before == 8 * 3 * 9 * 32 * 32
    # The network that was given is as it was.
    assert all(torch.equal(value, before[name]) for name, value in settled_vgg.state_dict().items())


def test_vgg_with_weight_masks_keeps_what_is_not_zero_and_says_why(
    settled_vgg: nn.Module, inputs: torch.Tensor
) -> None:
    masks = vgg_masks("weight")
    shrunk = shrink(settled_vgg, masks, inputs)
    assert shrunk.parity[0].error < 1e-9
    kept = {item.layer: item for item in shrunk.plan.kept_although_masked}
    assert kept
    folded = shrunk.plan.layers["classifier"]
    for name in LAYER_NAMES:
        # The constant that a filter of zeros leaves behind its batch norm, from the definition.
        norm = settled_vgg.get_submodule(f"features.bn{name[4:]}")
        constant = (norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps)).detach()
        layer = f"features.{name}"
        alive = np.flatnonzero((~masks.keep[layer]) & (constant > 0).numpy())
        if name == LAYER_NAMES[-1]:  # read by the classifier, whose bias takes them over
            assert folded.folded_inputs == tuple(alive)
            assert folded.folded_constants == pytest.approx(constant[alive].tolist(), rel=1e-5)
            continue
        assert list(kept[layer].channels if layer in kept else []) == list(alive)
        if layer in kept:
            assert f"{float(constant[alive].max()):.3g}" in kept[layer].reason
            assert "not zero" in kept[layer].reason


def test_the_two_meanings_are_two_networks(settled_vgg: nn.Module, inputs: torch.Tensor) -> None:
    by_channel = shrink(settled_vgg, vgg_masks("channel"), inputs).network
    by_weight = shrink(settled_vgg, vgg_masks("weight"), inputs).network
    with torch.no_grad():
        one, other = by_channel(inputs).numpy(), by_weight(inputs).numpy()
    assert np.abs(one - other).max() > 0.01 * spread(one)


@pytest.fixture(scope="module")
def masked_and_settled(settled_vgg: nn.Module, inputs: torch.Tensor) -> tuple[nn.Module, nn.Module, ShrinkPlan]:
    """A VGG whose statistics fit under its masks (else dead channels hide errors), masked, and its shrink plan."""
    network = copy.deepcopy(settled_vgg)
    masked = masked_network(network, vgg_masks("channel"), inputs)
    settle(masked, (3, 32, 32))
    return network, masked, shrink(network, vgg_masks("channel"), inputs).plan


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        ("features.conv1_1", "kept_outputs"),
        ("features.bn2_1", "kept_outputs"),
        ("features.conv3_2", "kept_outputs"),
        ("features.conv3_2", "kept_inputs"),
        ("features.bn4_3", "kept_outputs"),
        ("features.conv5_3", "kept_outputs"),
        ("features.conv5_3", "kept_inputs"),
        ("classifier", "kept_inputs"),
    ],
)
def test_a_plan_with_one_index_shifted_is_caught(
    masked_and_settled: tuple[nn.Module, nn.Module, ShrinkPlan], inputs: torch.Tensor, layer: str, field: str
) -> None:
    network, masked, plan = masked_and_settled
    kept = getattr(plan.layers[layer], field)
    for position in (0, len(kept) // 2, len(kept) - 1):
        shifted = list(kept)
        shifted[position] += 1 if position == 0 else -1
        layers = {**plan.layers, layer: plan.layers[layer].model_copy(update={field: tuple(shifted)})}
        mutated = apply_plan(network, plan.model_copy(update={"layers": layers}))
        with pytest.raises(CoopexportError, match=r"shrink: parity check 'shrink' failed: error \d"):
            prove_equal(masked, mutated, inputs)


def test_a_channel_of_prelu_goes_with_its_slope() -> None:
    network = seeded(nn.Sequential, nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 7 * 6, 5))
    network[1].weight.data = torch.tensor([0.1, 0.2, 0.3, 0.4])
    shrunk = shrink(network.eval(), Masks({"0": np.array([True, False, False, True])}, "channel"), images(INPUT_SHAPE))
    assert shrunk.network[1].weight.tolist() == pytest.approx([0.1, 0.4])
    assert shrunk.network[3].in_features == 2 * 7 * 6


@pytest.mark.parametrize("between", [nn.Dropout(), nn.MaxPool2d(2), nn.Identity()])
def test_channel_means_zero_behind_the_batch_norm_and_activation_of_the_layer(between: nn.Module) -> None:
    modules = [nn.Conv2d(3, 4, 3), between, nn.BatchNorm2d(4), nn.Sigmoid(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    network = settle(seeded(lambda: nn.Sequential(*copy.deepcopy(modules), nn.Linear(16, 5))), INPUT_SHAPE)
    keep = np.array([True, False, True, False])
    inputs = images(INPUT_SHAPE)
    shrunk = shrink(network, Masks({"0": keep}, "channel"), inputs)
    assert shrunk.sizes[0].channels_after == 2
    with torch.no_grad():
        expected = network[6](
            torch.flatten(network[4](network[:4](inputs) * torch.from_numpy(keep).reshape(1, 4, 1, 1)), 1)
        )
        assert torch.allclose(shrunk.network(inputs), expected, atol=1e-6)


# Refusals, each naming the place.


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4 * 5 * 4, 5))


class Functional(nn.Module):
    """A convolution, an operation between, a classifier."""

    def __init__(self, operation, features: int = 4 * 7 * 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(features, 5)
        self.operation = operation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.operation(torch.relu(self.conv(x))))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 9 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.again(self.again(self.first(x))), 1))


class DependsOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else x


class OnSequences(nn.Module):
    """A linear on the last of three dimensions, where channels are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3)
        self.inner = nn.Linear(6, 6)
        self.fc = nn.Linear(36, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.inner(torch.relu(self.conv(x))), 1))


def pruned_by_hook() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 6, 5))
    prune.ln_structured(network[0], "weight", 0.5, 2, 0)
    return network


HALF = np.array([True, False, True, False])


@pytest.mark.parametrize(
    ("make", "layer", "shape", "stays"),
    [
        (Residual, "stem", (3, 16, 16), r"'block1.conv1' reads it|'fc' reads it"),
        (Grouped, "0", INPUT_SHAPE, ""),
        (Shared, "first", INPUT_SHAPE, "'again' reads it|'fc' reads it"),
        (
            lambda: Functional(lambda x: torch.flatten(x, 1).cumsum(1)),
            "conv",
            INPUT_SHAPE,
            "'cumsum'.*cannot be shrunk",
        ),
        (lambda: Functional(lambda x: x.view(-1, 168)), "conv", INPUT_SHAPE, "'view' takes fixed numbers of channels"),
        (lambda: Functional(lambda x: x.view(x.size(0), 2, -1).flatten(1)), "conv", INPUT_SHAPE, ""),
        (lambda: Functional(lambda x: x.permute(0, 2, 3, 1).flatten(1)), "conv", INPUT_SHAPE, ""),
    ],
)
@pytest.mark.parametrize("meaning", ["channel", "weight"])
def test_what_no_chain_has_is_shrunk_or_stays_with_the_reason(make, layer, shape, stays: str, meaning: str) -> None:
    network = settle(seeded(make), shape)
    keep = np.arange(8 if make is Residual else 4) % 2 == 0
    shrunk = shrink(network, Masks({layer: keep}, meaning), images(shape))
    assert shrunk.parity[0].error < 1e-9
    kept = [item for item in shrunk.plan.kept_although_masked if item.layer == layer]
    assert [item.channels for item in kept] == ([tuple(np.flatnonzero(~keep))] if stays else [])
    assert all(re.search(stays, item.reason) for item in kept), kept
    (size,) = [size for size in shrunk.sizes if size.name == layer]
    assert size.channels_after == len(keep) - (0 if stays else int((~keep).sum()))


def test_a_linear_over_sequences_is_cut_in_its_last_dimension() -> None:
    network = seeded(OnSequences).eval()
    shrunk = shrink(network, Masks({"inner": np.arange(6) > 2, "conv": np.arange(6) > 0}, "channel"), images((3, 8)))
    assert shrunk.network.inner.weight.shape == (3, 6)
    assert shrunk.network.fc.in_features == 18


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Hardsigmoid()])
@pytest.mark.parametrize("affine", [True, False])
def test_a_masked_channel_that_stays_is_zero_behind_every_kind_of_layer(activation: nn.Module, affine: bool) -> None:
    """A sum with a live channel keeps it; behind it may be a batch norm that has nothing to be zeroed."""

    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.skip = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.layer = nn.Sequential(nn.BatchNorm2d(4), activation, nn.BatchNorm2d(4, affine=affine))
            self.fc = nn.Linear(4 * 42, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.flatten(self.layer(self.conv(x)) + self.skip(x), 1))

    network = settle(seeded(Summed), INPUT_SHAPE)
    shrunk = shrink(network, Masks({"conv": HALF}, "channel"), images(INPUT_SHAPE))
    assert shrunk.parity[0].error < 1e-9
    assert len(shrunk.plan.kept_although_masked[0].channels) == 2


def test_a_layer_with_a_parametrised_weight_stays_and_the_rest_shrinks() -> None:
    def make() -> nn.Sequential:
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 1), nn.Tanh(),
            nn.Flatten(), nn.Linear(4 * 20, 5),
        )  # fmt: skip
        nn.utils.parametrizations.spectral_norm(network[2])
        return network

    network = seeded(make).eval()
    shrunk = shrink(network, Masks({"0": HALF, "4": HALF}, "channel"), images(INPUT_SHAPE))
    assert [size.channels_after for size in shrunk.sizes] == [4, 2, 5]
    with pytest.raises(CoopexportError, match="the mask of '2' cannot be followed"):
        shrink(network, Masks({"2": HALF}, "channel"), images(INPUT_SHAPE))


def test_biases_folded_for_one_size_of_image_refuse_another() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=1),
        nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    network = settle(network, INPUT_SHAPE)
    folded = shrink(network, Masks({"0": HALF}, "weight"), images(INPUT_SHAPE), ShrinkOptions(fold_borders=True))
    assert folded.network[4].bias_map.shape == (1, 4, 1, 1)
    with pytest.raises(ValueError, match=r"folded for \(1, 1\) positions, not \(2, 2\)"):
        folded.network[4](torch.zeros(1, 2, 2, 2))


class Written(nn.Module):
    """The same network in the ways in which people write it: keywords, in-place, blocks called again."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem, self.block = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Conv2d(6, 6, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.norm, self.shuffle = nn.GroupNorm(3, 6), nn.ChannelShuffle(2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "in place":
            x /= 2.0
        if self.how == "keywords":
            x = torch.relu(input=self.bn1(input=self.stem(input=x)))
            x = torch.flatten(input=x, start_dim=2).view(x.size(dim=0), x.size(dim=1), x.size(2), x.size(3))
        else:
            x = torch.relu(self.bn1(self.stem(x)))
        for _ in range(2 if self.how == "again" else 1):
            x = torch.relu(self.bn2(self.block(x)))
        if self.how == "shuffled groups":
            x = self.norm(self.shuffle(x))
        if self.how == "width as number":
            x = x / (x.size(1) // (x.size(1) // 6))
        return self.fc(x.sum((2, 3)))


@pytest.mark.parametrize("how", ["plain", "keywords", "in place", "again", "shuffled groups", "width as number"])
@pytest.mark.parametrize("meaning", ["channel", "weight"])
def test_the_way_of_writing_a_network_makes_no_difference(how: str, meaning: str) -> None:
    network = settle(seeded(Written, how), INPUT_SHAPE)
    keep = {"stem": np.array([1, 0, 1, 1, 0, 0], bool), "block": np.array([0, 1, 1, 0, 1, 0], bool)}
    inputs = images(INPUT_SHAPE)
    before = inputs.clone()
    shrunk = shrink(network, Masks(keep, meaning), inputs)
    assert torch.equal(inputs, before)
    assert shrunk.parity[0].error < 1e-9
    if how in ("keywords", "in place"):
        plain = seeded(Written, "plain")
        plain.load_state_dict(network.state_dict())
        reference = shrink(plain.eval(), Masks(keep, meaning), inputs)
        assert [size.channels_after for size in shrunk.sizes] == [size.channels_after for size in reference.sizes]
    large = images((3, 12, 12))
    masked = masked_network(copy.deepcopy(network), Masks(keep, meaning), inputs)
    with torch.no_grad():
        assert torch.allclose(masked(large.clone()), shrunk.network(large.clone()), rtol=1e-3, atol=1e-3)


def test_an_argument_with_a_default_is_refused_in_one_line() -> None:
    class WithOption(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
            x = self.conv(x)
            return x * factor if factor is not None else x

    with pytest.raises(CoopexportError, match="cannot be traced"):
        shrink(WithOption().eval(), Masks({"conv": HALF}, "channel"), images(INPUT_SHAPE))


class Interleaved(nn.Module):
    """Two branches, stacked and read as one tensor: one after the other, or channel by channel in turn."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.join = nn.Conv2d(12, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)
        self.dimension = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.stack([torch.relu(self.one(x)), torch.relu(self.other(x))], dim=self.dimension)
        both = both.view(x.size(0), -1, x.size(2), x.size(3))
        return self.fc(torch.relu(self.join(both)).mean((2, 3)))


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("kept", [3, 2])
def test_stacked_branches_keep_equally_many_channels(dimension: int, kept: int) -> None:
    keep = {"one": np.arange(6) % 2 == 0, "other": np.arange(6) < kept}
    shrunk = shrink(seeded(Interleaved, dimension).eval(), Masks(keep, "channel"), images(INPUT_SHAPE))
    assert shrunk.network.join.in_channels == 6
    assert shrunk.parity[0].error < 1e-9


def test_a_network_that_float32_itself_blurs_is_not_refused_for_it() -> None:
    """Outputs that are small differences of large numbers: every order of adding them up rounds otherwise."""
    network = seeded(nn.Sequential, nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 42, 5)).eval()
    with torch.no_grad():
        network[0].bias += 1e4
        network[2].weight -= network[2].weight.mean(1, keepdim=True)
    shrunk = shrink(network, Masks({"0": np.arange(8) % 2 == 0}, "channel"), images(INPUT_SHAPE))
    exact, rounded = shrunk.parity
    assert exact.error < 1e-9
    assert rounded.bound >= 1e-3
    assert rounded.error <= rounded.bound


REFUSED_NETWORKS = [
    (DependsOnData, "fc", (4,), ["cannot be traced"]),
    (pruned_by_hook, "0", INPUT_SHAPE, ["'0'", "hook", "prune.remove"]),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()),
        "0", INPUT_SHAPE, ["'1'", "running statistics"],
    ),
    (
        lambda: Functional(lambda x: functional.dropout(torch.flatten(x, 1))), "conv", INPUT_SHAPE,
        ["'dropout'", "self.training"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "layer", "shape", "words"), REFUSED_NETWORKS)
def test_networks_without_one_function_are_refused_by_name(make, layer: str, shape: tuple[int, ...], words) -> None:
    with pytest.raises(CoopexportError) as caught:
        shrink(seeded(make).eval(), Masks({layer: HALF}, "channel"), images(shape))
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)


def test_weights_that_are_not_numbers_are_refused_by_name() -> None:
    network = chain()
    with torch.no_grad():
        network[0].weight[1, 0, 0, 0] = float("nan")
    with pytest.raises(CoopexportError, match=r"'0.weight'.*NaN"):
        shrink(network, Masks({"0": HALF}, "channel"), images(INPUT_SHAPE))


def chain() -> nn.Sequential:
    return seeded(
        nn.Sequential,
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(168, 6),
        nn.Linear(6, 5),
    ).eval()


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"0": np.zeros(4, bool)}, ["'0'", "every channel"]),
        ({"5": np.arange(5) > 0}, ["'5'", "outputs of the network"]),
        ({"0": np.arange(3) > 0}, ["'0'", "3 entries", "4 output channels"]),
        ({"conv": HALF}, ["'conv'", "0, 4, 5"]),
        ({"1": HALF}, ["'1'", "no convolution or linear"]),
    ],
)
@pytest.mark.parametrize("meaning", ["channel", "weight"])
def test_masks_that_do_not_fit_are_refused_by_name(keep, words: list[str], meaning: str) -> None:
    with pytest.raises(CoopexportError) as caught:
        shrink(chain(), Masks(keep, meaning), images(INPUT_SHAPE))
    for word in words:
        assert word in str(caught.value)


def test_training_mode_is_refused_even_of_one_module() -> None:
    network = chain()
    network[1].train()
    with pytest.raises(CoopexportError, match="training mode"):
        shrink(network, Masks({"0": HALF}, "channel"), images(INPUT_SHAPE))


def test_inputs_of_another_shape_are_refused_with_their_shape() -> None:
    with pytest.raises(CoopexportError, match=r"\(3, 5, 5\).*model.input_shape"):
        shrink(chain(), Masks({"0": HALF}, "channel"), images((3, 5, 5)))


@pytest.mark.parametrize("inputs", [torch.zeros(8, *INPUT_SHAPE), images(INPUT_SHAPE, count=1)])
def test_outputs_that_do_not_vary_prove_nothing(inputs: torch.Tensor) -> None:
    with pytest.raises(CoopexportError, match="vary by only"):
        shrink(chain(), Masks({"0": HALF}, "channel"), inputs)


class Gated(nn.Module):
    """A masked gate that multiplies channels which another layer reads too, so that it has to stay, and be zero."""

    def __init__(self, gate) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.to_gate = nn.Conv2d(4, 4, 1)
        self.gate = gate
        self.fc = nn.Linear(4 * 7 * 6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.fc(torch.flatten(x * self.gate(self.to_gate(x)), 1))


@pytest.mark.parametrize("gate", [nn.Sigmoid(), nn.Hardsigmoid()])
def test_a_gate_that_has_to_stay_is_held_at_zero(gate: nn.Module) -> None:
    network = seeded(Gated, gate).eval()
    shrunk = shrink(network, Masks({"to_gate": HALF}, "channel"), images(INPUT_SHAPE))
    assert shrunk.plan.silenced == {"gate": SilencePlan(mask=(1, 0, 1, 0), shape=(1, 4, 1, 1))}
    again = shrink(shrunk.network, Masks({"conv": np.array([True, True, True, False])}, "channel"), images(INPUT_SHAPE))
    assert again.parity[0].error < 1e-9  # what is shrunk can be shrunk once more
    assert shrunk.parity[0].error < 1e-9
    assert list(shrunk.network.state_dict())[-3:] != list(network.state_dict())[-3:]


def test_a_gate_without_a_module_that_has_to_stay_is_refused_by_name() -> None:
    network = seeded(Gated, torch.sigmoid).eval()
    with pytest.raises(CoopexportError, match=r"'to_gate'.*2 of its masked channels have to stay.*'sigmoid'"):
        shrink(network, Masks({"to_gate": HALF}, "channel"), images(INPUT_SHAPE))


def test_features_of_a_channel_that_are_constants_of_their_own_are_folded_one_by_one() -> None:
    """Behind a flatten every position has a batch norm of its own."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(168), nn.ReLU(), nn.Linear(168, 5)
    )
    settle(network, INPUT_SHAPE)
    norm = network[3]
    with torch.no_grad():
        # What a masked channel's 0 becomes: below 0 for all features of channel 1, above it for some of channel 3.
        wanted = torch.full((168,), -1.0)
        wanted[126:130] = 1.0
        norm.bias.copy_(wanted + norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt())
    shrunk = shrink(network, Masks({"0": HALF}, "weight"), images(INPUT_SHAPE))
    assert shrunk.plan.layers["5"].folded_inputs == (126, 127, 128, 129)
    assert shrunk.plan.layers["5"].folded_constants == pytest.approx([1.0] * 4, rel=1e-5)
    assert shrunk.sizes[0].channels_after == 2
    assert shrunk.plan.kept_although_masked == ()


def test_functional_forms_are_followed_too() -> None:
    def operation(x: torch.Tensor) -> torch.Tensor:
        x = functional.avg_pool2d(functional.leaky_relu(input=x, negative_slope=0.2), 3, 1, 1)
        return functional.dropout(torch.flatten(functional.adaptive_avg_pool2d(x, 2), 1), training=False)

    network = seeded(Functional, operation, 16).eval()
    shrunk = shrink(network, Masks({"conv": HALF}, "channel"), images(INPUT_SHAPE))
    assert shrunk.network.fc.in_features == 8


def test_constants_behind_a_pool_that_changes_them_are_not_trusted() -> None:
    """An average pool with a divisor of its own, or with a border of zeros, makes something else of a constant."""
    for pool in (nn.AvgPool2d(2, divisor_override=3), nn.AvgPool2d(3, padding=1)):
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), pool, nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip
        network = settle(network, INPUT_SHAPE)
        shrunk = shrink(network, Masks({"0": HALF}, "weight"), images(INPUT_SHAPE))
        (kept,) = shrunk.plan.kept_although_masked
        assert kept.channels == (1, 3)
