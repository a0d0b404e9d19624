"""Masks from networks: exactly the filters that do nothing, whatever the layer's layout; never more."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import Residual, images, seeded, settle
from torch import nn
from torch.nn.utils import prune

from exporter.masks.importers import from_batch_norm_gammas, from_torch_prune, from_zero_weights
from jetson.errors import CoopexportError

# Each with an input that it takes; 6 output channels throughout.
LAYERS = {
    "conv1d": (lambda bias: nn.Conv1d(4, 6, 3, bias=bias), (4, 8)),
    "conv2d": (lambda bias: nn.Conv2d(3, 6, 3, bias=bias), (3, 6, 6)),
    "conv2d of 1": (lambda bias: nn.Conv2d(1, 6, 1, bias=bias), (1, 3, 3)),
    "conv2d in groups": (lambda bias: nn.Conv2d(4, 6, 3, groups=2, bias=bias), (4, 6, 6)),
    "depthwise": (lambda bias: nn.Conv2d(6, 6, 3, groups=6, bias=bias), (6, 5, 5)),
    "conv2d channels last": (
        lambda bias: nn.Conv2d(3, 6, 3, bias=bias).to(memory_format=torch.channels_last),
        (3, 6, 6),
    ),
    "conv3d": (lambda bias: nn.Conv3d(2, 6, 2, bias=bias), (2, 4, 4, 4)),
    "transposed1d": (lambda bias: nn.ConvTranspose1d(4, 6, 2, stride=2, bias=bias), (4, 4)),
    "transposed2d": (lambda bias: nn.ConvTranspose2d(5, 6, 3, bias=bias), (5, 4, 4)),
    "transposed2d in groups": (lambda bias: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=bias), (4, 4, 4)),
    "transposed3d in groups": (lambda bias: nn.ConvTranspose3d(3, 6, 2, groups=3, bias=bias), (3, 3, 3, 3)),
    "linear": (lambda bias: nn.Linear(7, 6, bias=bias), (7,)),
}
kinds = pytest.mark.parametrize("kind", LAYERS)
keeps = st.lists(st.booleans(), min_size=6, max_size=6).map(np.array)


def layer_of(kind: str, bias: bool = True) -> nn.Module:
    """Return a layer without a zero in it."""
    layer = seeded(LAYERS[kind][0], bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 2
    return layer


def filter_of(layer: nn.Module, tensor: torch.Tensor, channel: int) -> torch.Tensor:
    """Return the part of a weight that makes output channel `channel`, by PyTorch's documentation."""
    if not layer._get_name().startswith("ConvTranspose"):
        return tensor[channel]
    group, index = divmod(channel, layer.out_channels // layer.groups)
    inputs = layer.in_channels // layer.groups
    return tensor[group * inputs : (group + 1) * inputs, index]


def silence(layer: nn.Module, keep: np.ndarray) -> None:
    with torch.no_grad():
        for channel in np.flatnonzero(~keep):
            filter_of(layer, layer.weight, channel).zero_()
            if layer.bias is not None:
                layer.bias[channel] = 0


def one(masks) -> list[bool]:
    """Return the mask of the only layer; all True where it is left out."""
    assert set(masks.keep) <= {"layer"}
    return masks.keep.get("layer", np.ones(6, bool)).tolist()


def at_least_one(keep: np.ndarray) -> list[bool]:
    return keep.tolist() if keep.any() else [True] + [False] * 5


def named(layer: nn.Module) -> nn.Module:
    return nn.ModuleDict({"layer": layer})


# Zero weights.


@kinds
@given(keep=keeps, bias=st.booleans())
def test_zeroed_filters_are_found_and_are_the_silent_channels(kind: str, keep: np.ndarray, bias: bool) -> None:
    layer = layer_of(kind, bias)
    silence(layer, keep)
    masks = from_zero_weights(named(layer))
    assert masks.meaning == "weight"
    assert one(masks) == at_least_one(keep)
    with torch.no_grad():
        outputs = layer(torch.ones(1, *LAYERS[kind][1]))  # positive weights and inputs: nothing cancels
    assert (outputs[0].flatten(1) if outputs.dim() > 2 else outputs.T).any(dim=1).tolist() == keep.tolist()


@kinds
@given(data=st.data())
def test_one_weight_of_a_filter_keeps_it(kind: str, data) -> None:
    layer = layer_of(kind)
    silence(layer, np.zeros(6, bool))
    channel = data.draw(st.integers(0, 5))
    part = filter_of(layer, layer.weight.detach(), channel)
    position = tuple(data.draw(st.integers(0, size - 1)) for size in part.shape)
    part[position] = data.draw(st.sampled_from([1.0, -1e-30, 1e-45, float("nan"), float("inf")]))
    assert one(from_zero_weights(named(layer))) == [index == channel for index in range(6)]


@kinds
@given(keep=keeps)
def test_a_bias_keeps_its_filter(kind: str, keep: np.ndarray) -> None:
    layer = layer_of(kind)
    silence(layer, np.zeros(6, bool))
    with torch.no_grad():
        layer.bias[torch.from_numpy(keep)] = 1e-20
    assert one(from_zero_weights(named(layer))) == at_least_one(keep)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_zeros_of_any_dtype_and_sign(dtype: torch.dtype) -> None:
    layer = layer_of("conv2d").to(dtype)
    with torch.no_grad():
        layer.weight[2] = -0.0
        layer.bias[2] = -0.0
    assert one(from_zero_weights(named(layer))) == [True, True, False, True, True, True]


def test_a_network_without_zeros_gives_no_masks_and_names_are_paths() -> None:
    network = seeded(Residual)
    assert from_zero_weights(network).keep == {}
    silence(network.block2.conv1, np.arange(8) > 2)
    silence(network.fc, np.arange(10) != 4)
    keep = from_zero_weights(network).keep
    assert {name: np.flatnonzero(~vector).tolist() for name, vector in keep.items()} == {
        "block2.conv1": [0, 1, 2],
        "fc": [4],
    }


def test_active_pruning_counts_and_a_stale_attribute_does_not() -> None:
    layer = layer_of("conv2d", bias=False)
    prune.ln_structured(layer, "weight", amount=2, n=1, dim=0)
    pruned = one(from_zero_weights(named(layer)))
    assert pruned.count(False) == 2
    layer.weight = torch.zeros_like(layer.weight)  # what the last forward left
    assert one(from_zero_weights(named(layer))) == pruned


# torch.nn.utils.prune.


@kinds
@given(amount=st.integers(0, 6), norm=st.sampled_from([1, 2]), seed=st.integers(0, 2**16))
def test_pruned_filters_are_those_of_the_least_norm(kind: str, amount: int, norm: int, seed: int) -> None:
    layer = seeded(LAYERS[kind][0], False, seed=seed)
    transposed = layer._get_name().startswith("ConvTranspose")
    channels = layer.weight.shape[1 if transposed else 0]  # with groups, each of these is an output channel per group
    amount = min(amount, channels)
    norms = torch.linalg.vector_norm(layer.weight.detach().transpose(0, 1 if transposed else 0).flatten(1), norm, dim=1)
    pruned = set(norms.argsort()[:amount].tolist())
    prune.ln_structured(layer, "weight", amount=amount, n=norm, dim=1 if transposed else 0)
    masks = from_torch_prune(named(layer))
    assert masks.meaning == "weight"
    assert one(masks) == at_least_one(np.array([channel % channels not in pruned for channel in range(6)]))


@kinds
@given(share=st.sampled_from([0.2, 0.5, 0.9]), dim=st.integers(0, 1), seed=st.integers(0, 2**16))
def test_pruned_filters_are_the_zero_filters_once_pruning_is_permanent(
    kind: str, share: float, dim: int, seed: int
) -> None:
    """Pruned twice over, single weights and whole slices: as torch.nn.utils.prune combines the two."""
    network = named(layer_of(kind, bias=False))
    layer = network["layer"]
    mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(seed)) > share
    prune.custom_from_mask(layer, "weight", mask)
    prune.ln_structured(layer, "weight", amount=share, n=1, dim=dim)
    found = one(from_torch_prune(network))
    prune.remove(layer, "weight")
    assert found == one(from_zero_weights(network))


@given(weight=keeps, bias_mask=keeps, bias=keeps)
def test_a_filter_goes_with_its_bias_only(weight: np.ndarray, bias_mask: np.ndarray, bias: np.ndarray) -> None:
    layer = layer_of("conv2d")
    with torch.no_grad():
        layer.bias[torch.from_numpy(~bias)] = 0
    row_mask = torch.from_numpy(weight).float().reshape(6, 1, 1, 1).expand_as(layer.weight)
    prune.custom_from_mask(layer, "weight", row_mask)
    assert one(from_torch_prune(named(layer))) == at_least_one(weight | bias)
    prune.custom_from_mask(layer, "bias", torch.from_numpy(bias_mask).float())
    assert one(from_torch_prune(named(layer))) == at_least_one(weight | (bias & bias_mask))


def test_the_network_is_not_changed() -> None:
    network = settle(seeded(Residual), (3, 16, 16))
    prune.ln_structured(network.block1.conv1, "weight", amount=3, n=2, dim=0)
    prune.l1_unstructured(network.fc, "weight", amount=0.5)
    before = copy.deepcopy(network.state_dict())
    hooks = list(network.block1.conv1._forward_pre_hooks.values())
    assert from_torch_prune(network).keep == {}  # biases are left
    with torch.no_grad():
        network.block1.conv1.bias.zero_()
        before["block1.conv1.bias"].zero_()
    assert list(from_torch_prune(network).keep) == ["block1.conv1"]
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert list(network.block1.conv1._forward_pre_hooks.values()) == hooks


def test_a_network_without_active_pruning_is_refused() -> None:
    network = named(layer_of("linear"))
    prune.l1_unstructured(network["layer"], "bias", amount=2)
    for _ in range(2):
        with pytest.raises(CoopexportError, match=r"prune is active on no weight.*zero weights"):
            from_torch_prune(network)
        prune.l1_unstructured(network["layer"], "weight", amount=2)
        prune.remove(network["layer"], "weight")


# Batch-norm gammas.


class Mixed(nn.Module):
    """Layers that a batch norm alone reads (`plain`, `dropped`, `up`, `fc1`), and layers that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.dropped = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.dropout = nn.Dropout2d(0.1)
        self.norm2 = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2, groups=2)
        self.norm3 = nn.BatchNorm2d(6)
        self.twice = nn.Conv2d(6, 6, 1)  # read by a sum as well
        self.norm4 = nn.BatchNorm2d(6)
        self.pooled = nn.Conv2d(6, 6, 1)  # an activation stands before the batch norm
        self.norm5 = nn.BatchNorm2d(6)
        self.free = nn.Conv2d(6, 6, 1)  # a batch norm without gammas
        self.norm6 = nn.BatchNorm2d(6, affine=False)
        self.shared = nn.Conv2d(6, 6, 1)  # called twice, each time with another batch norm
        self.norm7 = nn.BatchNorm2d(6)
        self.norm8 = nn.BatchNorm2d(6)
        self.tokens = nn.Linear(64, 6)  # on N x 6 x 64: its channels are not those of the batch norm
        self.norm9 = nn.BatchNorm1d(6)
        self.fc1 = nn.Linear(36, 6, bias=False)
        self.norm10 = nn.BatchNorm1d(6)
        self.fc2 = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.plain(x)))
        x = torch.relu(self.norm2(self.dropout(self.dropped(x))))
        x = torch.relu(self.norm3(self.up(x)))
        inner = self.twice(x)
        x = self.norm4(inner) + inner
        x = self.norm5(torch.tanh(self.pooled(x)))
        x = torch.relu(self.norm6(self.free(x)))
        x = self.norm8(self.shared(torch.relu(self.norm7(self.shared(x)))))
        x = self.norm9(self.tokens(x.flatten(2)))
        return self.fc2(torch.relu(self.norm10(self.fc1(x.flatten(1)))))


PAIRS = {"plain": "norm1", "dropped": "norm2", "up": "norm3", "fc1": "norm10"}
gammas = st.lists(st.sampled_from([0.0, -0.0, 1e-3, -0.2, 0.5, 1.0, -1.0]), min_size=6, max_size=6)


@cache
def settled_mixed() -> nn.Module:
    return settle(seeded(Mixed), (3, 4, 4))


def mixed() -> nn.Module:
    return copy.deepcopy(settled_mixed())


@settings(max_examples=40)
@given(st.fixed_dictionaries(dict.fromkeys([*PAIRS.values(), "norm4", "norm5", "norm7", "norm8", "norm9"], gammas)))
def test_gammas_of_zero_mask_what_changes_nothing(values: dict[str, list[float]]) -> None:
    network = mixed()
    for norm, gamma in values.items():
        getattr(network, norm).weight.data = torch.tensor(gamma)
    expected = {layer: [g != 0 for g in values[norm]] for layer, norm in PAIRS.items()}
    if not all(any(keep) for keep in expected.values()):
        with pytest.raises(CoopexportError, match="lose every channel"):
            from_batch_norm_gammas(network, images((3, 4, 4), 2))
        return
    masks = from_batch_norm_gammas(network, images((3, 4, 4), 2))
    assert masks.meaning == "weight"
    assert {name: keep.tolist() for name, keep in masks.keep.items()} == {
        layer: keep for layer, keep in expected.items() if not all(keep)
    }
    zeroed = copy.deepcopy(network)
    for name, keep in masks.keep.items():
        silence(getattr(zeroed, name), keep)
    with torch.no_grad():
        assert torch.equal(zeroed(images((3, 4, 4))), network(images((3, 4, 4))))


@settings(max_examples=30)
@given(st.lists(st.floats(1e-6, 0.99), min_size=2, max_size=4).map(sorted))
def test_a_higher_threshold_masks_more_and_exactly_up_to_it(thresholds: list[float]) -> None:
    network = mixed()
    for index, norm in enumerate(PAIRS.values()):
        drawn = torch.rand(6, generator=torch.Generator().manual_seed(index)) * 2 - 1
        drawn[index] = 1.0
        getattr(network, norm).weight.data = drawn
    before = {layer: np.ones(6, bool) for layer in PAIRS}
    for threshold in thresholds:
        masks = from_batch_norm_gammas(network, images((3, 4, 4), 2), threshold)
        assert masks.meaning == "channel"
        assert f"{threshold:g}" in masks.origin
        for layer, norm in PAIRS.items():
            keep = masks.keep.get(layer, np.ones(6, bool))
            assert keep.tolist() == [abs(gamma) > threshold for gamma in getattr(network, norm).weight.tolist()]
            assert not (keep & ~before[layer]).any()
            before[layer] = keep


def test_residual_networks_are_paired_by_their_graph_and_stay_as_they_are() -> None:
    network = seeded(Residual).train()
    network.block1.bn1.weight.data[2] = 0
    network.block2.bn2.weight.data[5] = 0
    before = copy.deepcopy(network.state_dict())
    keep = from_batch_norm_gammas(network, images((3, 16, 16), 2)).keep
    assert {name: np.flatnonzero(~vector).tolist() for name, vector in keep.items()} == {
        "block1.conv1": [2],
        "block2.conv2": [5],
    }
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_layers_that_share_a_batch_norm_share_its_mask() -> None:
    norm = nn.BatchNorm2d(6)
    norm.weight.data[3] = 0
    network = nn.Sequential(nn.Conv2d(3, 6, 1), norm, nn.ReLU(), nn.Conv2d(6, 6, 1), nn.Identity(), norm)
    keep = from_batch_norm_gammas(network, images((3, 4, 4), 2)).keep
    assert {name: np.flatnonzero(~vector).tolist() for name, vector in keep.items()} == {"0": [3], "3": [3]}


@pytest.mark.parametrize(("threshold", "way_out"), [(0.0, "take that layer out"), (0.25, "lower the threshold")])
def test_a_layer_that_would_lose_every_channel_is_named(threshold: float, way_out: str) -> None:
    network = mixed()
    network.norm2.weight.data.fill_(threshold)
    with pytest.raises(CoopexportError, match=f"'dropped'.*{way_out}"):
        from_batch_norm_gammas(network, images((3, 4, 4), 2), threshold)


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("-inf")])
def test_thresholds_below_zero_are_refused(threshold: float) -> None:
    with pytest.raises(CoopexportError, match=f"{threshold}.*0 or more"):
        from_batch_norm_gammas(mixed(), images((3, 4, 4), 2), threshold)


def test_a_network_without_batch_norms_is_refused() -> None:
    with pytest.raises(CoopexportError, match="read by a batch norm"):
        from_batch_norm_gammas(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images((3, 8, 8), 2))
