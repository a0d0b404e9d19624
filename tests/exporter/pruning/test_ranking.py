"""Which groups go: scores normalised per layer, tied channels added, no layer emptied."""

from __future__ import annotations

import numpy as np
import pytest
from network_families import FAMILIES, Family
from small_networks import Residual, images, seeded, settle

from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.dense_network import DenseNetwork, state_of, without_groups
from exporter.pruning.ranking import group_scores, least_filters, ranked, scored_layers


def dense_of(network, inputs, removed: tuple[int, ...] = ()) -> DenseNetwork:
    groups = channel_groups(network, inputs)
    gone = np.isin(np.arange(groups.count), removed)
    return without_groups(groups, state_of(network), gone, "test")[0]


def residual(removed: tuple[int, ...] = ()) -> DenseNetwork:
    return dense_of(settle(seeded(Residual), (3, 16, 16)), images((3, 16, 16)), removed)


def test_scores_are_divided_by_their_layers_norm_and_tied_ones_added() -> None:
    dense = residual()
    scores = {name: np.arange(1.0, count + 1) for name, count in scored_layers(dense).items()}
    found = group_scores(dense, scores)
    norm = np.sqrt((np.arange(1.0, 9) ** 2).sum())
    stem, inner = dense.groups.of_layer["stem"], dense.groups.of_layer["block1.conv1"]
    np.testing.assert_allclose(found[stem], 3 * np.arange(1.0, 9) / norm)
    np.testing.assert_allclose(found[inner], np.arange(1.0, 9) / norm)


def test_scores_of_what_is_left_stand_at_the_channels_own_places() -> None:
    whole = residual()
    gone = int(whole.groups.of_layer["block1.conv1"][2])
    dense = residual((gone,))
    scores = {name: np.ones(count) for name, count in scored_layers(dense).items()}
    scores["block1.conv1"] = np.array([1.0, 2, 4, 5, 6, 7, 8])
    found = group_scores(dense, scores)
    inner = dense.groups.of_layer["block1.conv1"]
    assert np.isinf(found[inner[2]])
    np.testing.assert_allclose(found[inner[3]] / found[inner[0]], 4)


def test_by_rank_the_same_share_of_every_layer_goes() -> None:
    dense = residual()
    generator = np.random.default_rng(0)
    scores = {
        name: 10.0**index * generator.random(count) for index, (name, count) in enumerate(scored_layers(dense).items())
    }
    found = group_scores(dense, scores, by_rank=True)
    inner = [dense.groups.of_layer[name] for name in ("block1.conv1", "block2.conv1")]
    for name, own in zip(("block1.conv1", "block2.conv1"), inner, strict=True):
        assert np.array_equal(np.argsort(found[own]), np.argsort(scores[name]))
        np.testing.assert_allclose(np.sort(found[own]), (np.arange(8) + 0.5) / 8)


def test_a_layer_of_zeros_scores_zero() -> None:
    dense = residual()
    scores = {name: np.zeros(count) for name, count in scored_layers(dense).items()}
    assert (group_scores(dense, scores) == 0).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_the_whole_order_leaves_every_layer_a_channel(family: Family) -> None:
    inputs = family.inputs(2)
    dense = dense_of(family.build(), inputs if len(inputs) > 1 else inputs[0])
    groups = dense.groups
    order = ranked(dense, np.random.default_rng(0).random(groups.count))
    assert len(set(order)) == len(order) > 0
    removed = np.isin(np.arange(groups.count), order)
    for name, keep in groups.masks(removed).items():
        assert keep.any(), name


def test_the_order_is_that_of_the_scores_and_of_the_numbers() -> None:
    dense = residual()
    scores = np.zeros(dense.groups.count)
    scores[5] = -1
    assert ranked(dense, scores)[:3] == [5, 0, 1]


def test_only_what_is_allowed_goes() -> None:
    dense = residual()
    allowed = np.isin(np.arange(dense.groups.count), dense.groups.of_layer["block2.conv1"])
    order = ranked(dense, np.zeros(dense.groups.count), allowed)
    assert set(order) < set(dense.groups.of_layer["block2.conv1"]) and len(order) == 7


def test_filters_are_counted_with_all_that_are_tied() -> None:
    dense = residual()
    stem = [int(group) for group in dense.groups.of_layer["stem"]]
    inner = [int(group) for group in dense.groups.of_layer["block1.conv1"]]
    assert least_filters(dense, [stem[0], stem[1], inner[0]], 4).sum() == 2  # three filters each
    assert least_filters(dense, [inner[0], inner[1], stem[0]], 2).sum() == 2
