"""The masked network: the definition of both meanings, and fine-tuning through it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_networks import images, seeded, settle
from torch import nn

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from jetson.errors import CoopexportError

SHAPE = (3, 8, 8)
KEEP = np.array([True, False, True, True, False, True])


def network() -> nn.Module:
    modules = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.Flatten(), nn.Linear(6 * 36, 4)]
    return settle(seeded(lambda: nn.Sequential(*modules)), SHAPE)


def test_channel_is_zero_behind_the_activation() -> None:
    net = network()
    masked = masked_network(net, Masks({"0": KEEP}, "channel"), images(SHAPE))
    with torch.no_grad():
        feature = net[:3](images(SHAPE)) * torch.from_numpy(KEEP).reshape(1, 6, 1, 1)
        assert torch.equal(masked(images(SHAPE)), net[3:](feature))


def test_weight_leaves_the_constant_of_batch_norm_and_activation() -> None:
    net = network()
    masked = masked_network(net, Masks({"0": KEEP}, "weight"), images(SHAPE))
    norm = net[1]
    constant = torch.sigmoid(norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps))
    with torch.no_grad():
        feature = net[:3](images(SHAPE))
        for channel in np.flatnonzero(~KEEP):
            feature[:, channel] = constant[channel]
        assert torch.allclose(masked(images(SHAPE)), net[3:](feature), atol=1e-6)


def test_training_a_channel_masked_network_trains_the_network_itself() -> None:
    net = network()
    before = copy.deepcopy(net[0].weight.detach())
    masked = masked_network(net, Masks({"0": KEEP}, "channel"), images(SHAPE))
    masked.train()
    masked(images(SHAPE)).square().sum().backward()
    with torch.no_grad():
        for parameter in masked.parameters():
            parameter -= 0.1 * parameter.grad
    moved = (net[0].weight.detach() - before).flatten(1).abs().amax(1) > 0
    assert moved.numpy().tolist() == KEEP.tolist()


def test_a_weight_masked_network_is_a_copy() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    masked = masked_network(net, Masks({"0": KEEP}, "weight"), images(SHAPE))
    assert not masked[0].weight[~torch.from_numpy(KEEP)].any()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_looking_at_a_network_in_training_leaves_its_statistics_alone() -> None:
    net = network().train()
    before = copy.deepcopy(net[1].state_dict())
    masked = masked_network(net, Masks({"0": KEEP}, "channel"), images(SHAPE))
    assert all(torch.equal(value, before[name]) for name, value in net[1].state_dict().items())
    assert masked.training
    assert all(module.training for module in net.modules())


def test_layers_whose_names_look_alike_keep_masks_of_their_own() -> None:
    """Dots and underscores in names must not make two layers share a mask."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.ModuleDict({"b_c": nn.Conv2d(3, 6, 3)})
            self.a_b = nn.ModuleDict({"c": nn.Conv2d(6, 6, 3)})
            self.fc = nn.Linear(6 * 16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.flatten(torch.relu(self.a_b["c"](torch.relu(self.a["b_c"](x)))), 1))

    net = seeded(Net).eval()
    masks = {"a.b_c": KEEP, "a_b.c": ~KEEP}
    masked = masked_network(net, Masks(masks, "channel"), images(SHAPE))
    with torch.no_grad():
        x = images(SHAPE)
        for module, keep in ((net.a["b_c"], KEEP), (net.a_b["c"], ~KEEP)):
            x = torch.relu(module(x)) * torch.from_numpy(keep).reshape(1, 6, 1, 1)
        assert torch.equal(masked(images(SHAPE)), net.fc(torch.flatten(x, 1)))


def test_a_mask_for_no_layer_is_refused() -> None:
    with pytest.raises(CoopexportError, match="'3'"):
        masked_network(network(), Masks({"3": KEEP}, "channel"), images(SHAPE))
