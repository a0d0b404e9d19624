"""Any unambiguous way to name a layer leads to it, and every short name leads back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.candidates import Layer
from exporter.layer_names import find_layer, nearest_names, short_name
from jetson.errors import CoopexportError


def layer(name: str, *aliases: str, clean: bool = True) -> Layer:
    return Layer(name, "Conv", f"/{name}/out", None, (1,), 4, 0, 0, clean, False, aliases)


parts = st.sampled_from(["a", "b", "conv", "0", "1"])
paths = st.lists(parts, min_size=1, max_size=3).map(".".join)


@given(st.lists(paths, min_size=1, max_size=8, unique=True), st.data())
def test_short_names_lead_back_to_their_layer(names: list[str], data) -> None:
    # Some names are aliases of the layer before them.
    layers: list[Layer] = []
    for name in names:
        if layers and data.draw(st.booleans()):
            previous = layers.pop()
            layers.append(layer(previous.name, *previous.aliases, name))
        else:
            layers.append(layer(name))
    for item in layers:
        assert find_layer(layers, item.name) == item
        short = short_name(layers, item.name)
        assert item.name == short or item.name.endswith("." + short)
        assert find_layer(layers, short) == item


@given(st.lists(paths, min_size=1, max_size=6, unique=True), paths)
def test_a_tail_is_found_ambiguous_or_unknown(names: list[str], wanted: str) -> None:
    assume(wanted not in names)
    layers = [layer(name) for name in names]
    fitting = [name for name in names if name.endswith("." + wanted)]
    if len(fitting) == 1:
        assert find_layer(layers, wanted).name == fitting[0]
        return
    with pytest.raises(CoopexportError) as caught:
        find_layer(layers, wanted)
    assert ("ambiguous" if fitting else "no layer") in str(caught.value)
    assert all(name in str(caught.value) for name in fitting)


def test_two_names_of_one_layer_are_not_ambiguous() -> None:
    layers = [layer("x.a.relu", "y.relu"), layer("z")]
    assert find_layer(layers, "relu") == layers[0]


def test_tensors_and_nodes_can_be_named() -> None:
    layers = [layer("features.conv"), layer("/Flatten")]
    assert find_layer(layers, "/features.conv/out") == layers[0]
    assert find_layer(layers, "Flatten") == layers[1]


def test_nearest_names_are_layers_that_can_be_cut() -> None:
    layers = [layer(f"features.conv{i}_{j}", clean=i != 3) for i in range(1, 6) for j in (1, 2)]
    assert nearest_names(layers, "conv3_1")[0] in ("conv1_1", "conv2_1", "conv4_1", "conv5_1")
    assert len(nearest_names(layers, "conv3_1")) == 3
    assert not any("conv3" in name for name in nearest_names(layers, "conv3_1", 20))
