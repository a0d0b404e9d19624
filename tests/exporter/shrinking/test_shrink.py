"""Shrinking VGG by masks of both meanings: dense sizes, reasons why channels stay, wrong plans caught."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_networks import settle
from torch import nn

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from exporter.models.vgg import LAYER_NAMES
from exporter.shrinking.plan import ShrinkPlan
from exporter.shrinking.shrink import shrink, shrink_parity
from exporter.shrinking.slice_modules import apply_shrink_plan
from jetson.errors import CoopexportError


def spread(outputs: np.ndarray) -> float:
    return float(np.ptp(outputs, axis=0).max())


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
        mutated = apply_shrink_plan(network, plan.model_copy(update={"layers": layers}))
        with pytest.raises(CoopexportError, match=r"shrink: parity check 'shrink' failed: error \d"):
            shrink_parity(masked, mutated, inputs)
