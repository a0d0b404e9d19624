"""Masks in one go: as few MACs as asked for, on every family; and what cannot be."""

from __future__ import annotations

import pytest
import torch
from network_families import FAMILIES, Family
from small_networks import Residual, images, seeded, settle

from exporter.masks.masked_network import masked_network
from exporter.pruning.one_shot import prune
from exporter.shrinking.shrink import shrink
from jetson.errors import CoopexportError

# A third of its channels is tied to its inputs and outputs; or branches of one channel.
_LESS = {"shufflenetv1_small": 1.2, "googlenet_small": 1.3}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_macs_are_as_few_as_asked_for(family: Family) -> None:
    network, inputs = family.build(), family.inputs(8)
    examples = inputs if len(inputs) > 1 else inputs[0]
    wanted = _LESS.get(family.name, 1.5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    masks = prune(network, examples, wanted)
    sizes = shrink(network, masks, examples).sizes
    found = sum(size.macs_before for size in sizes) / sum(size.macs_after for size in sizes)
    assert wanted <= found < 1.6 * wanted
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_taylor_costs_less_than_chance_and_than_its_opposite() -> None:
    network, inputs = settle(seeded(Residual), (3, 16, 16)), images((3, 16, 16), 64)
    with torch.no_grad():
        labels = network(inputs).argmax(dim=1)
    share = {}
    for criterion in ("taylor-absolute", "random"):
        masks = prune(network, inputs, 1.5, criterion, [(inputs, labels)], by_rank=False)
        with torch.no_grad():
            outputs = masked_network(network, masks, inputs).eval()(inputs)
        share[criterion] = (outputs.argmax(dim=1) == labels).float().mean().item()
    assert share["taylor-absolute"] > share["random"]


def test_taylor_without_batches_is_refused() -> None:
    with pytest.raises(CoopexportError, match="needs batches of inputs and labels"):
        prune(settle(seeded(Residual), (3, 16, 16)), images((3, 16, 16)), 2.0, "taylor")


def test_more_than_can_go_is_refused_with_the_most() -> None:
    with pytest.raises(CoopexportError, match=r"cannot have 1e\+06 times fewer MACs .*the most is [0-9.]+"):
        prune(settle(seeded(Residual), (3, 16, 16)), images((3, 16, 16)), 1e6)
