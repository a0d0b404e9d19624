"""Structures that no chain has: gates, sharing, other ways of writing forward(); shrunk, or kept with the reason."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from small_networks import Functional, Residual, images, seeded, settle
from torch import nn
from torch.nn import functional

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from exporter.shrinking.plan import SilencePlan
from exporter.shrinking.shrink import ShrinkOptions, shrink
from jetson.errors import CoopexportError

HALF = np.array([True, False, True, False])
INPUT_SHAPE = (3, 9, 8)


def test_a_channel_of_prelu_goes_with_its_slope() -> None:
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * 7 * 6, 5)))
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


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 9 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.again(self.again(self.first(x))), 1))


class OnSequences(nn.Module):
    """A linear on the last of three dimensions, where channels are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3)
        self.inner = nn.Linear(6, 6)
        self.fc = nn.Linear(36, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.inner(torch.relu(self.conv(x))), 1))


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
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 42, 5))).eval()
    with torch.no_grad():
        network[0].bias += 1e4
        network[2].weight -= network[2].weight.mean(1, keepdim=True)
    shrunk = shrink(network, Masks({"0": np.arange(8) % 2 == 0}, "channel"), images(INPUT_SHAPE))
    exact, rounded = shrunk.parity
    assert exact.error < 1e-9
    assert rounded.bound >= 1e-3
    assert rounded.error <= rounded.bound


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


def test_sums_over_positions_are_followed_in_the_words_of_numpy_too() -> None:
    network = seeded(Functional, lambda x: x.mean(axis=(2, 3), keepdims=True).flatten(1), 4).eval()
    assert shrink(network, Masks({"conv": HALF}, "channel"), images(INPUT_SHAPE)).network.fc.in_features == 2


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


class OwnConvolutions(nn.Module):
    """A wide convolution that is called as a function of its module's weight, as in EfficientNet-PyTorch."""

    def __init__(self, width: int, reads: int) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, reads, 1), nn.Conv2d(reads, width, 1, bias=False)
        self.norm, self.head, self.fc = nn.BatchNorm2d(width), nn.Conv2d(width, 8, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(torch.relu(self.stem(x)), self.wide.weight)
        return self.fc(torch.relu(self.head(torch.relu(self.norm(x)))).mean((2, 3)))


@pytest.mark.parametrize(("width", "reads"), [(240, 40), (40, 240)])
def test_free_parameters_of_many_elements_stay_whole(width: int, reads: int) -> None:
    """Above 8,192 elements numpy.unravel_index of NumPy 2.4.6 loses rows of a weight whose kernel is 1 x 1."""
    network = settle(seeded(OwnConvolutions, width, reads), (3, 4, 4))
    masks = Masks({"head": np.arange(8) % 2 == 0}, "channel")
    shrunk = shrink(network, masks, images((3, 4, 4)))
    assert shrunk.network.norm.num_features == width
    assert shrunk.network.head.weight.shape[:2] == (4, width)
    assert shrunk.plan.parameters == {}


def test_a_large_parameter_is_cut_with_the_channels_that_it_scales() -> None:
    """One number per channel and position: 4 x 96 x 96 are far more than 8,192 elements."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 1), nn.Parameter(torch.rand(1, 4, 96, 96, 1))
            self.fc = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.conv(x)).unsqueeze(4) * self.scale
            return self.fc(x.mean((2, 3, 4)))

    network = seeded(Scaled).eval()
    shrunk = shrink(network, Masks({"conv": HALF}, "channel"), images((3, 96, 96), count=2))
    assert torch.equal(shrunk.network.scale, network.scale[:, [0, 2]])
