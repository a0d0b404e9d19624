"""A bottleneck goes in at every clean cut, changes nothing by itself, and is cut as a layer of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bottleneck_networks import NETWORKS, features_behind, opened, settled, small
from cifar_networks import resnet18
from torch import nn

from exporter.bottleneck.design import REDUCTION, BottleneckDesign
from exporter.bottleneck.insert import find_place, insert, tapped
from exporter.bottleneck.quantiser import Quantiser
from exporter.layers.export import export
from exporter.models.vgg import vgg16
from exporter.tracing.trace import run_network
from jetson.errors import StaleError, UnsupportedError


@pytest.mark.parametrize("name", NETWORKS)
def test_it_goes_in_at_every_clean_cut_and_is_a_layer_to_cut_behind(name: str) -> None:
    network, inputs, layers, known = opened(name)
    assert len(layers) >= 3
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for layer in layers:
        place = find_place(network, inputs, layer.name, known[layer.name])
        assert place.shape == layer.shape
        assert place.rectified == bool((known[layer.name] >= 0).all())
        made = insert(network, inputs, place, small(layer.shape))
        assert set(made.graph_module.state_dict()) > set(before)
        own = export(settled(made.graph_module, inputs), inputs) if layer in (layers[0], layers[-1]) else None
        if own is not None:
            cut = next(one for one in own.layers if one.name == REDUCTION)
            assert (cut.clean, cut.shape) == (True, small(layer.shape).shape(layer.shape))
            assert cut.tensor_before_activation is not None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_in_its_place_is_all_that_the_rest_of_the_network_sees(name: str) -> None:
    network, inputs, layers, known = opened(name)
    wanted = run_network(network, inputs)
    for layer in layers:
        place = find_place(network, inputs, layer.name, known[layer.name])
        made = insert(network, inputs, place, small(layer.shape)).graph_module
        for unit, child in made.named_children():
            if unit.startswith(REDUCTION):
                made.set_submodule(unit, nn.Identity())
                assert not isinstance(child, nn.Identity)
        assert all(torch.equal(one, other) for one, other in zip(wanted, run_network(made, inputs), strict=True))
        # What comes out of the bottleneck decides all that is behind the cut: with zeros there, images are alike.
        made.set_submodule("bottleneck_recovery", Zeros())
        outputs = run_network(made, inputs)
        assert any(bool((one == one[:1]).all()) for one in outputs)


class Zeros(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_sides_are_what_each_machine_runs() -> None:
    network, inputs, layers, known = opened("vgg16")
    layer = next(one for one in layers if one.name.endswith("conv2_1"))
    made = insert(network, inputs, find_place(network, inputs, layer.name, known[layer.name]), small(layer.shape))
    assert {name.split(".")[1] for name in made.head if name.startswith("features.conv")} == {
        "conv1_1", "conv1_2", "conv2_1"
    }  # fmt: skip
    assert "classifier" in made.tail
    assert not set(made.head) & set(made.tail)
    whole = sum(parameter.numel() for parameter in network.parameters())
    assert made.parameters_in(*made.head) + made.parameters_in(*made.tail) == whole


def test_a_cut_that_is_not_clean_is_refused() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(8, 3, 32, 32)
    network = settled(resnet18(8, 2), inputs)
    exported = export(network, inputs)
    layer = next(one for one in exported.layers if not one.clean)
    feature = features_behind(exported.model, [layer], inputs)[layer.name]
    with pytest.raises(UnsupportedError, match=f'layer "{layer.name}": more than one tensor crosses there'):
        find_place(network, inputs, layer.name, feature)
    with pytest.raises(UnsupportedError, match="sees no operation that makes the tensor"):
        find_place(network, inputs, layer.name, feature + 1)


def test_another_network_and_a_second_bottleneck_are_refused() -> None:
    network, inputs, layers, known = opened("vgg16")
    place = find_place(network, inputs, layers[2].name, known[layers[2].name])
    made = insert(network, inputs, place, small(place.shape)).graph_module
    with pytest.raises(UnsupportedError, match='has a module "bottleneck" already'):
        insert(made, inputs, place, small(place.shape))
    with pytest.raises(StaleError, match="no longer makes what a bottleneck was put behind"):
        insert(vgg16([4] * 13, classes=10).eval(), inputs, place, small(place.shape))


def test_a_tap_keeps_the_feature_and_changes_nothing() -> None:
    network, inputs, layers, known = opened("densenet")
    place = find_place(network, inputs, layers[1].name, known[layers[1].name])
    module, tap = tapped(network, inputs, place)
    assert all(
        torch.equal(a, b) for a, b in zip(run_network(network, inputs), run_network(module, inputs), strict=True)
    )
    assert tap.passed is not None
    assert np.allclose(tap.passed.numpy(), known[layers[1].name], atol=1e-4)


def test_with_a_quantiser_what_crosses_is_rounded() -> None:
    network, inputs, layers, known = opened("vgg16")
    place = find_place(network, inputs, layers[2].name, known[layers[2].name])
    made = insert(network, inputs, place, BottleneckDesign(2, 2, 2), Quantiser(2, 2))
    seen: list[torch.Tensor] = []
    made.recovery.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    run_network(made.graph_module, inputs)
    levels = np.unique(seen[0].numpy())
    assert 2 <= len(levels) <= 4
    assert np.allclose(levels * 3, np.rint(levels * 3), atol=1e-6)
