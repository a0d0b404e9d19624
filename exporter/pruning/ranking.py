"""From scores of channels to groups that go: normalised per layer, tied channels together, least important first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exporter.pruning.criteria import Scores
from exporter.pruning.dense_network import DenseNetwork, State, without_groups


def scored_layers(dense: DenseNetwork) -> dict[str, int]:
    """Return the layers whose channels are judged, with how many are left of each: none that only pass on others'."""
    groups = dense.groups
    return {
        name: len(dense.plan.layers[name].kept_outputs)
        for name, found in groups.of_layer.items()
        if name not in groups.passing and (found >= 0).any()
    }


def group_scores(dense: DenseNetwork, scores: Scores, *, by_rank: bool = False) -> NDArray[np.float64]:
    """Return the score of every group, float64; infinite for groups that are gone.

    A layer's scores are divided by their L2 norm over the channels that are left, s / sqrt(sum s^2) (Molchanov et al.
    2017; Shi et al. 2019), so that layers can be compared; or, `by_rank`, replaced by their place in the layer, from 0
    to 1, so that about the same share of every layer goes (as Li et al. 2017 and He et al. 2019 prune). Tied channels
    count together: their scores are added, since to first order removing them all costs the sum; places are averaged.
    """
    groups = dense.groups
    totals, counts = np.zeros(groups.count), np.zeros(groups.count)
    for name, values in scores.items():
        left = groups.of_layer[name][list(dense.plan.layers[name].kept_outputs)]
        free = left >= 0
        np.add.at(totals, left[free], (_places(values) if by_rank else _normalised(values))[free])
        np.add.at(counts, left[free], 1)
    return np.where(dense.removed, np.inf, totals / np.maximum(counts, 1) if by_rank else totals)


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.sqrt(np.square(values).sum())
    return values / norm if norm > 0 else values


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.empty(len(values))
    places[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / len(values)
    return places


def ranked(dense: DenseNetwork, scores: NDArray[np.float64], allowed: NDArray[np.bool_] | None = None) -> list[int]:
    """Return the groups that are left, least important first, so that no layer loses its last channel.

    `allowed`: those that may go, one boolean per group; all by default. Equal scores: the lower number first. Groups
    that cannot go after those before them are left out.
    """
    groups = dense.groups
    left = {
        name: np.bincount(found[~np.append(dense.removed, False)[found] & (found >= 0)], minlength=groups.count)
        for name, found in groups.of_layer.items()
    }
    alive = {name: int((~np.append(dense.removed, False)[found]).sum()) for name, found in groups.of_layer.items()}
    members: dict[int, list[str]] = {}
    for name, counts in left.items():
        for group in np.flatnonzero(counts):
            members.setdefault(int(group), []).append(name)
    order: list[int] = []
    for group in np.argsort(scores, kind="stable").tolist():
        if dense.removed[group] or (allowed is not None and not allowed[group]):
            continue
        layers = members.get(group, [])
        if any(alive[name] <= left[name][group] for name in layers):
            continue
        for name in layers:
            alive[name] -= int(left[name][group])
        order.append(group)
    return order


def remove_least(
    dense: DenseNetwork,
    full: State,
    scores: NDArray[np.float64],
    choose: Callable[[list[int]], NDArray[np.bool_]],
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[DenseNetwork, State]:
    """Return what is left without the groups that `choose` takes of the ranking, as `without_groups` does.

    `choose` gets the groups that may go, least important first, and returns which are gone then. Groups that the
    shrinker puts back leave the ranking, and those behind them take their places. `allowed`: as in `ranked`.
    """
    groups = dense.groups
    allowed = np.ones(groups.count, dtype=np.bool_) if allowed is None else allowed.copy()
    while True:
        chosen = choose(ranked(dense, scores, allowed))
        left, left_full = without_groups(groups, full, chosen, dense.masks.origin)
        stayed = chosen & ~left.removed & ~dense.removed
        if not stayed.any():
            return left, left_full
        allowed &= ~stayed


def least_filters(dense: DenseNetwork, order: list[int], count: int) -> NDArray[np.bool_]:
    """Return which groups are gone once the first of `order` that together have at least `count` filters go, too."""
    filters = dense.groups.filters()
    removed, gone = dense.removed.copy(), 0
    for group in order:
        if gone >= count:
            break
        removed[group] = True
        gone += int(filters[group])
    return removed
