"""What has to go together, and that it can: in every family of networks, what is asked for is taken out and proven."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_families import FAMILIES, Family
from small_networks import Residual, images, seeded, settle
from torch import nn

from exporter.pruning.channel_groups import FIXED, ChannelGroups, channel_groups, crossing_groups
from exporter.pruning.dense_network import state_of, without_groups, write_back
from exporter.shrinking.shrink import shrink
from jetson.errors import CoopexportError

# Branches of one channel each: half of the groups leave nothing that depends on the input.
_TOO_SMALL = ("googlenet_small",)


def groups_of(factory, *arguments, shape=(3, 16, 16)) -> ChannelGroups:
    network = settle(seeded(factory, *arguments), shape)
    return channel_groups(network, images(shape))


class Depthwise(nn.Module):
    """Expansion, depthwise convolution, projection."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.depthwise, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.project = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.expand(x)))
        x = torch.relu(self.bn2(self.depthwise(x)))
        return self.fc(self.project(x).mean((2, 3)))


class Grouped(nn.Module):
    """A grouped convolution between two others."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, channels, 1)
        self.grouped = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.after = nn.Conv2d(channels, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.grouped(torch.relu(self.before(x))))
        return self.fc(self.after(x).mean((2, 3)))


def test_a_residual_sum_ties_all_layers_that_add_to_it() -> None:
    groups = groups_of(Residual)
    tied = [groups.of_layer[name] for name in ("stem", "block1.conv2", "block2.conv2")]
    assert all(np.array_equal(tied[0], other) for other in tied)
    inner = set(groups.of_layer["block1.conv1"]) | set(groups.of_layer["block2.conv1"])
    assert len(inner) == 16 and inner.isdisjoint(tied[0])


def test_the_classes_are_fixed() -> None:
    assert (groups_of(Residual).of_layer["fc"] == FIXED).all()


def test_a_depthwise_convolution_passes_on_the_channels_that_it_reads() -> None:
    groups = groups_of(Depthwise)
    assert np.array_equal(groups.of_layer["expand"], groups.of_layer["depthwise"])
    assert groups.passing == {"depthwise"}
    assert (groups.filters() == 1).all(), "a depthwise channel is not a filter of its own"


def test_narrow_groups_go_whole_and_wide_ones_channel_by_channel() -> None:
    narrow = groups_of(Grouped, 16, 8)
    assert np.array_equal(narrow.of_layer["grouped"], np.repeat(narrow.of_layer["grouped"][::2], 2))
    assert np.array_equal(narrow.of_layer["before"], narrow.of_layer["grouped"])
    wide = groups_of(Grouped, 16, 2)
    assert np.array_equal(wide.of_layer["grouped"][:8], wide.of_layer["grouped"][8:])
    assert len(set(wide.of_layer["grouped"]) | set(wide.of_layer["before"])) == 16


def test_a_network_without_a_channel_to_spare_is_refused() -> None:
    with pytest.raises(CoopexportError, match="nothing of the network can be pruned"):
        channel_groups(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval(), torch.randn(4, 3, 2, 2))


@pytest.mark.parametrize("name", ["stem", "block1", "block2.conv2"])
def test_what_crosses_is_found_by_the_name_of_the_layer_or_of_the_block(name: str) -> None:
    groups = groups_of(Residual)
    assert np.array_equal(crossing_groups(groups, [name]), groups.of_layer["stem"])


def test_a_cut_that_no_module_makes_is_refused_by_name() -> None:
    with pytest.raises(CoopexportError, match="after '/Add_3'"):
        crossing_groups(groups_of(Residual), ["/Add_3"])


def removed_at_random(groups: ChannelGroups, seed: int) -> np.ndarray:
    """Return half of all groups, drawn, but one of every layer."""
    removed = np.random.default_rng(seed).random(groups.count) < 0.5
    for found in groups.of_layer.values():
        if (found >= 0).all() and removed[found].all():
            removed[found[0]] = False
    return removed


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.name not in _TOO_SMALL], ids=lambda one: one.name)
def test_what_is_left_goes_back_into_the_full_size_network_and_is_proven(family: Family) -> None:
    network = family.build()
    inputs = family.inputs(8)
    examples = inputs if len(inputs) > 1 else inputs[0]
    groups = channel_groups(network, examples)
    wanted = removed_at_random(groups, seed=0)
    dense, full = without_groups(groups, state_of(network), wanted, "test")
    assert not (dense.removed & ~wanted).any()
    assert dense.removed.sum() >= 0.5 * wanted.sum()
    macs = sum(size.macs_before for size in dense.sizes())
    assert macs / dense.macs() > 1.5
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # as training would
        for parameter in dense.network.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    groups.traced.network.load_state_dict(write_back(dense, full))
    shrunk = shrink(groups.traced.network, dense.masks, examples)  # proves it equal to the masked network
    made, trained = shrunk.network.state_dict(), dense.network.state_dict()
    assert made.keys() == trained.keys()
    assert all(torch.equal(made[name], trained[name]) for name in made)


def test_the_groups_that_are_gone_leave_no_channel_behind() -> None:
    network = FAMILIES[1].build()
    groups = channel_groups(network, FAMILIES[1].inputs(2)[0])
    dense, _ = without_groups(groups, state_of(network), removed_at_random(groups, seed=3), "test")
    for name, found in groups.of_layer.items():
        left = (~np.append(dense.removed, False)[found]).sum()
        assert dense.network.get_submodule(name).weight.shape[0] == left


def test_training_the_dense_network_is_training_the_masked_one() -> None:
    """The gradients of what is left are those under masks: nothing of the removed channels takes part."""
    from exporter.masks.masked_network import masked_network
    from exporter.tracing.trace import copied

    network = settle(seeded(Residual), (3, 16, 16))
    inputs = images((3, 16, 16))
    groups = channel_groups(copied(network), inputs)
    dense, full = without_groups(groups, state_of(network), removed_at_random(groups, seed=5), "test")
    network.load_state_dict(full)
    masked = masked_network(network, dense.masks, inputs).train()
    masked(inputs).square().sum().backward()
    dense.network.train()(inputs).square().sum().backward()
    kept = list(dense.plan.layers["stem"].kept_outputs)
    torch.testing.assert_close(dense.network.stem.weight.grad, network.stem.weight.grad[kept])
