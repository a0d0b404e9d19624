"""Scores of channels, against what they stand for: differences of the loss, sums by hand, distances by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
import pytest
import torch
from small_networks import Residual, images, seeded, settle
from torch import nn

from coopexport.commands.prune import prune
from exporter.project.settings import PruneSection
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.criteria import CRITERIA, Evidence, score_channels
from exporter.pruning.dense_network import DenseNetwork, state_of, without_groups
from exporter.pruning.gates import gated_network
from exporter.pruning.one_shot import prune as prune_once
from exporter.pruning.ranking import scored_layers
from exporter.tracing.trace import trace
from jetson.errors import CoopexportError

INPUTS, LABELS = images((3, 16, 16), 12), torch.arange(12) % 10


def dense_residual() -> DenseNetwork:
    network = settle(seeded(Residual), (3, 16, 16))
    groups = channel_groups(network, INPUTS)
    return without_groups(groups, state_of(network), np.zeros(groups.count, dtype=np.bool_), "test")[0]


def evidence(dense: DenseNetwork, batch: int = 4, seed: int = 0) -> Evidence:
    batches = list(zip(INPUTS.split(batch), LABELS.split(batch), strict=True))
    loss = nn.functional.cross_entropy
    return Evidence(dense.network, dense.groups.traced, scored_layers(dense), lambda: batches, loss, seed)


def loss_with(dense: DenseNetwork, layer: str, channel: int, factor: float, at_end: bool, samples: slice) -> float:
    """Return the summed loss when one channel is multiplied by `factor`, in float64."""
    dense.network.double()
    traced = trace(dense.network, INPUTS.double())
    gated = gated_network(traced, dense.network, {layer: scored_layers(dense)[layer]}, at_end=at_end)
    gate = torch.ones((1, *gated.shapes[0]), dtype=torch.float64)
    gate.reshape(-1)[channel] = factor
    outputs = gated.network(INPUTS.double()[samples], gate)
    dense.network.float()
    return nn.functional.cross_entropy(outputs, LABELS[samples], reduction="sum").item()


@pytest.mark.parametrize(("criterion", "at_end"), [("taylor", True), ("taylor-before-norm", False)])
@pytest.mark.parametrize(("layer", "channel"), [("stem", 0), ("block1.conv1", 3), ("block2.conv2", 5)])
def test_taylor_is_the_slope_of_the_loss(criterion: str, at_end: bool, layer: str, channel: int) -> None:
    dense = dense_residual()
    found = score_channels(criterion, evidence(dense))[layer][channel]
    step = 1e-7
    ends = [loss_with(dense, layer, channel, 1 + sign * step, at_end, slice(None)) for sign in (1, -1)]
    assert found == pytest.approx(abs(ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-6)


def test_taylor_by_sample_adds_sizes() -> None:
    dense = dense_residual()
    found = score_channels("taylor-absolute", evidence(dense))["stem"][2]
    step, slopes = 1e-7, []
    for index in range(len(INPUTS)):
        one = slice(index, index + 1)
        ends = [loss_with(dense, "stem", 2, 1 + sign * step, True, one) for sign in (1, -1)]
        slopes.append(abs(ends[0] - ends[1]) / (2 * step))
    assert found == pytest.approx(sum(slopes), rel=1e-3)


@pytest.mark.parametrize("criterion", ["taylor", "taylor-absolute", "taylor-before-norm"])
def test_the_size_of_the_batches_does_not_matter(criterion: str) -> None:
    dense = dense_residual()
    whole, parts = (score_channels(criterion, evidence(dense, batch)) for batch in (12, 3))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-6)


def test_signs_cancel_in_taylor_and_not_by_sample() -> None:
    dense = dense_residual()
    signed, absolute = (score_channels(name, evidence(dense)) for name in ("taylor", "taylor-absolute"))
    assert all((signed[name] <= absolute[name] * (1 + 1e-6)).all() for name in signed)
    assert any((signed[name] < 0.9 * absolute[name]).any() for name in signed)


def test_a_channel_that_nothing_depends_on_scores_nothing() -> None:
    dense = dense_residual()
    with torch.no_grad():
        dense.network.block1.conv2.weight[:, 6] = 0  # the only reader of block1.conv1's channel 6
    assert score_channels("taylor", evidence(dense))["block1.conv1"][6] == 0


def test_l1_norm_and_geometric_median_are_those_of_the_filters() -> None:
    dense = dense_residual()
    filters = dense.network.stem.weight.detach().double().flatten(1).numpy()
    found = {name: score_channels(name, evidence(dense))["stem"] for name in ("l1-norm", "geometric-median")}
    np.testing.assert_allclose(found["l1-norm"], np.abs(filters).sum(axis=1))
    distances = [sum(np.linalg.norm(one - other) for other in filters) for one in filters]
    np.testing.assert_allclose(found["geometric-median"], distances)


def test_random_scores_follow_the_seed() -> None:
    dense = dense_residual()
    first, again, other = (score_channels("random", evidence(dense, seed=seed))["stem"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("criterion", list(CRITERIA))
def test_scoring_leaves_the_network_as_it_was(criterion: str) -> None:
    dense = dense_residual()
    before = state_of(dense.network)
    scores = score_channels(criterion, evidence(dense))
    assert {name: len(values) for name, values in scores.items()} == scored_layers(dense)
    _same(before, dense.network.state_dict())
    assert not dense.network.training


def _same(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> None:
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_network_that_has_diverged_is_named_by_layer() -> None:
    dense = dense_residual()
    with torch.no_grad():
        dense.network.fc.weight[0] = torch.nan
    with pytest.raises(CoopexportError, match="scores of 'stem' are NaN"):
        score_channels("taylor", evidence(dense))


def test_project_file_and_command_know_the_same_criteria() -> None:
    known = set(get_args(PruneSection.model_fields["criterion"].annotation))
    (option,) = [one for one in prune.commands["two-step"].params if one.name == "criterion"]
    assert known == set(CRITERIA) == set(option.type.choices)


def test_an_unknown_criterion_lists_the_others() -> None:
    with pytest.raises(CoopexportError, match="choose one of taylor, taylor-absolute"):
        score_channels("magic", evidence(dense_residual()))


def test_a_network_that_does_not_run_with_gradients_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fixed, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fixed(torch.relu(self.conv(x))).requires_grad_(False).mean((2, 3)))

    with pytest.raises(CoopexportError, match="does not run with gradients, which Taylor's criteria take"):
        prune_once(seeded(Fixed).eval(), INPUTS, 1.1, "taylor", [(INPUTS, LABELS)])
    assert (*capfd.readouterr(),) == ("", "")
