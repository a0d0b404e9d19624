"""Networks that are built in less common ways: what is pruned and trained of them finds its way back, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pruning_case import pruning_session
from small_networks import images, seeded
from torch import nn

from exporter.pruning.channel_groups import ChannelGroups, channel_groups
from exporter.pruning.criteria import Evidence, score_channels
from exporter.pruning.dense_network import DenseNetwork, State, state_of, without_groups, write_back
from exporter.pruning.one_shot import prune
from exporter.pruning.ranking import scored_layers
from exporter.pruning.step_one import prune_whole
from exporter.pruning.step_two import Narrowed, Series, prune_series
from exporter.shrinking.shrink import shrink
from jetson.errors import CoopexportError

INPUTS, LABELS = images((3, 8, 8), 8), torch.arange(8) % 5


class Chain(nn.Module):
    """Two convolutions, a norm between them, and a linear."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm is None else norm
        self.second = nn.Conv2d(8, 12, 3)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        return self.fc(x.mean((2, 3)))


class NamedTwice(Chain):
    """Its first modules have a second name, in a list that forward() calls."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(self.first, self.norm, nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.second(self.features(x))).mean((2, 3)))


def channels_last() -> nn.Module:
    return Chain().to(memory_format=torch.channels_last)


def first_half(groups: ChannelGroups, layer: str) -> np.ndarray:
    removed = np.zeros(groups.count, dtype=np.bool_)
    removed[groups.of_layer[layer][:4]] = True
    return removed


def trained(network: nn.Module, layer: str) -> tuple[DenseNetwork, State]:
    """Return what is left without four channels of `layer`, trained for two steps, and its full-size weights."""
    groups = channel_groups(network, INPUTS)
    dense, full = without_groups(groups, state_of(network), first_half(groups, layer), "test")
    optimizer = torch.optim.SGD(dense.network.train().parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(dense.network(INPUTS), LABELS).backward()
        optimizer.step()
    dense.network.eval()
    return dense, write_back(dense, full)


@pytest.mark.parametrize("factory", [NamedTwice, channels_last])
def test_what_was_trained_is_what_its_masks_leave(factory) -> None:
    dense, full = trained(seeded(factory).eval(), "second")
    assert dense.removed.sum() == 4
    carrier = dense.groups.traced.network
    carrier.load_state_dict(full)
    made = shrink(carrier, dense.masks, INPUTS).network.state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in dense.network.state_dict().items())


def test_modules_that_share_a_weight_are_refused_by_their_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1)).eval()
    network[2].weight = network[0].weight
    with pytest.raises(CoopexportError, match="'0' and '2' share a weight"):
        channel_groups(network, INPUTS)


class Tokens(nn.Module):
    """A linear on 4 tokens of a sample: in the dimension of the samples, in one before it, or behind it."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.stem, self.hidden, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 10), nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        if self.order == "joined":
            return self.fc(torch.relu(self.hidden(x.flatten(0, 1)))).reshape(-1, 4, 5).mean(1)
        if self.order == "first":
            return self.fc(torch.relu(self.hidden(x.permute(1, 0, 2)))).mean(0)
        return self.fc(torch.relu(self.hidden(x))).mean(1)


@pytest.mark.parametrize("order", ["joined", "first"])
@pytest.mark.parametrize("criterion", ["taylor", "taylor-absolute", "taylor-before-norm"])
def test_scores_do_not_depend_on_where_a_layer_has_its_samples(order: str, criterion: str) -> None:
    found = []
    for where in ("behind", order):
        groups = channel_groups(seeded(Tokens, where).eval(), INPUTS)
        none = np.zeros(groups.count, dtype=np.bool_)
        dense, _ = without_groups(groups, state_of(groups.traced.network), none, "test")
        loss = nn.functional.cross_entropy
        evidence = Evidence(
            dense.network, groups.traced, scored_layers(dense), lambda: [(INPUTS, LABELS)], loss, seed=0
        )
        found.append(score_channels(criterion, evidence))
    np.testing.assert_allclose(found[1]["hidden"], found[0]["hidden"], rtol=1e-4)


class Shifted(nn.Module):
    """A layer whose channels leave ones behind, and so stay, with the smallest scores of all; others are free."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.stuck = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)
        with torch.no_grad():
            self.stuck.weight[1:] *= 0.01

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (self.stuck(torch.relu(self.first(x))).permute(0, 2, 3, 1) + 1).permute(0, 3, 1, 2)
        return self.fc(torch.relu(self.last(x)).mean((2, 3)))


def test_groups_that_cannot_go_leave_their_turn_to_others(tmp_path: Path) -> None:
    network = seeded(Shifted).eval()
    session = pruning_session(tmp_path, removed_share=0.25, least_left=0.5, criterion="l1-norm")
    session = replace(session, groups=channel_groups(network, torch.zeros(2, 3, 8, 8)), base=state_of(network))
    first = prune_whole(session, lambda found: None)
    assert [one.filters for one in first.rounds] == [24, 18, 12]
    assert len(first.trained.dense.plan.layers["stuck"].kept_outputs) == 8
    made: list[Narrowed] = []
    tied = np.concatenate([session.groups.of_layer[name] for name in ("stuck", "last")])
    prune_series(session, first.trained, Series(("cat",), tied), made.append)
    assert made and made[-1].channels == 9, "only those of one layer go, all but its last"


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["instance", "group"])
def test_channels_go_from_before_a_norm_of_the_sample_itself(kind: str, affine: bool) -> None:
    """It is not part of the layer, and its beta would be left of a channel that is gone."""
    norm = nn.InstanceNorm2d(8, affine=affine) if kind == "instance" else nn.GroupNorm(4, 8, affine=affine)
    network = seeded(Chain, norm).eval()
    if norm.bias is not None:
        nn.init.constant_(norm.bias, 0.5)
    dense, full = trained(network, "first")
    assert dense.removed.sum() == len(set(dense.groups.of_layer["first"][:4].tolist()))
    dense.groups.traced.network.load_state_dict(full)
    shrink(dense.groups.traced.network, dense.masks, INPUTS)  # proves it


class Frozen(nn.Module):
    """A batch norm of one's own: nothing but its author says that it is one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(8, 1, 1)), nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.shift


class HardSigmoid(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu6(x + 3.0) / 6.0


def test_a_layer_of_which_cannot_be_told_where_it_ends_stays_whole() -> None:
    """Also as long as the shift is zero, which training changes."""
    groups = channel_groups(seeded(Chain, Frozen()).eval(), INPUTS)
    assert (groups.of_layer["first"] < 0).all()
    assert (groups.of_layer["second"] >= 0).all()
    masks = prune(seeded(Chain, Frozen()).eval(), INPUTS, 1.5)
    assert set(masks.keep) == {"second"}
    shrink(seeded(Chain, Frozen()).eval(), masks, INPUTS)  # proves it


def test_where_no_end_can_be_told_nothing_is_pruned_and_the_reason_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), Frozen(), nn.ReLU(), nn.Conv2d(8, 5, 6), nn.Flatten()).eval()
    with pytest.raises(
        CoopexportError, match=r"can be pruned: .* as '0': '1' \(Frozen\) behind it may be its batch norm"
    ):
        channel_groups(network, INPUTS)


@pytest.mark.parametrize("criterion", ["taylor", "taylor-absolute"])
def test_scores_are_taken_behind_an_activation_of_ones_own(criterion: str) -> None:
    """Against activation and gradient that hooks see in the network itself, behind its module."""
    network = seeded(Chain, nn.Sequential(nn.BatchNorm2d(8), HardSigmoid())).eval()
    groups = channel_groups(network, INPUTS)
    none = np.zeros(groups.count, dtype=np.bool_)
    dense, _ = without_groups(groups, state_of(network), none, "test")
    evidence = Evidence(
        dense.network, groups.traced, scored_layers(dense), lambda: [(INPUTS, LABELS)], nn.functional.cross_entropy, 0
    )
    found = score_channels(criterion, evidence)["first"]
    seen: list[torch.Tensor] = []
    network.norm.register_forward_hook(lambda _, given, made: seen.append(made) or made.retain_grad())
    (nn.functional.cross_entropy(network(INPUTS), LABELS) * len(INPUTS)).backward()
    products = (seen[0] * seen[0].grad).sum((2, 3)).detach().numpy()
    expected = np.abs(products.sum(0)) if criterion == "taylor" else np.abs(products).sum(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert expected.max() > 1e-3


def test_a_network_with_more_than_tensors_in_its_state_is_refused_by_name() -> None:
    """Quantised modules have such entries."""

    class Counting(Chain):
        def get_extra_state(self) -> int:
            return 3

    with pytest.raises(CoopexportError, match=r"cannot be pruned: '_extra_state' .* is a int"):
        prune(seeded(Counting).eval(), INPUTS, 1.3)
