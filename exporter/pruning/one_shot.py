"""Masks for a network in one go, without training: a criterion, and how many times fewer MACs."""

from __future__ import annotations

import numpy as np
from torch import nn

from exporter.masks.masks import Masks
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.criteria import Batches, Evidence, Loss, score_channels
from exporter.pruning.dense_network import fewest_to, state_of, without_groups
from exporter.pruning.ranking import group_scores, remove_least, scored_layers
from exporter.tracing.trace import Inputs, copied
from jetson.errors import InputError

# Criteria that look at how the network answers.
_LOOKING = ("taylor", "taylor-absolute", "taylor-before-norm")


def prune(
    network: nn.Module,
    example_inputs: Inputs,
    macs_reduction: float,
    criterion: str = "l1-norm",
    batches: Batches = (),
    *,
    by_rank: bool = True,
    seed: int = 0,
    loss: Loss = nn.functional.cross_entropy,
) -> Masks:
    """Return masks of meaning `channel` under which `network` has `macs_reduction` times fewer MACs, or a few less.

    `network`: any that torch.fx can trace, in eval mode; it is not changed. `example_inputs`: N x ..., float32.
    `criterion`: one of those of `coopexport prune` (docs/pruning.md); Taylor's need `batches` of inputs and labels, and
    the `loss`, a mean over a batch. `by_rank`: take about the same share of every layer, instead of comparing scores
    across layers. Channels that are tied go together. What the masks leave must be trained: `masked_network` and
    `shrink` take them. Raises CoopexportError when nothing can be pruned, or not as much.
    """
    if criterion in _LOOKING and not batches:
        raise InputError(f"criterion {criterion} needs batches of inputs and labels", fix="pass batches=[...]")
    groups = channel_groups(copied(network).eval(), example_inputs)
    origin = f"criterion {criterion}, {macs_reduction:g} times fewer MACs"
    whole, full = without_groups(groups, state_of(network), np.zeros(groups.count, dtype=np.bool_), origin)
    evidence = Evidence(whole.network, groups.traced, scored_layers(whole), lambda: batches, loss, seed)
    scores = group_scores(whole, score_channels(criterion, evidence), by_rank=by_rank)
    target_macs = whole.macs() / macs_reduction
    left, _ = remove_least(whole, full, scores, lambda order: fewest_to(whole, full, order, target_macs))
    if left.macs() > target_macs:
        most = whole.macs() / left.macs()
        raise InputError(
            f"the network cannot have {macs_reduction:g} times fewer MACs with a channel left in every layer; the most "
            f"is {most:.2f}"
        )
    return left.masks
