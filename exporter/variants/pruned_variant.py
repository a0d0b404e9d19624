"""A variant that pruning made, as files: the plan, weights and masks that `shrink` writes, proven in the same way."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from exporter.masks.masks import Masks, encode_masks
from exporter.project.freshness import FORMAT, MadeFrom
from exporter.project.settings import Project
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.dense_network import DenseNetwork, State, state_of, without_groups, write_back
from exporter.shrinking.plan import SCHEMA, WEIGHTS_FILE, ShrinkFile, encode_weights, write_shrink_plan
from exporter.shrinking.shrink import Shrunk, shrink
from exporter.tracing.trace import Inputs, copied
from exporter.variants.plans import PRUNING
from jetson.errors import StaleError
from jetson.files.atomic_files import sha256_of_bytes


def write_pruned_variant(
    project: Project, variant: str, dense: DenseNetwork, full: State, inputs: Inputs, made_from: MadeFrom
) -> Shrunk:
    """Shrink the full-size weights `full` under the masks of `dense`, prove both equal, and write the variant's files.

    `inputs`: to prove it on, N x ...; `made_from`: what the pruning was made from. Raises CoopexportError
    when the shrunk network is not `dense`, bit for bit, or the masked one differs from it.
    """
    carrier = dense.groups.traced.network
    carrier.load_state_dict(full)
    shrunk = shrink(carrier, dense.masks, inputs)
    made, trained = shrunk.network.state_dict(), dense.network.state_dict()
    if made.keys() != trained.keys() or not all(torch.equal(made[name], trained[name]) for name in made):
        raise StaleError(f"variant {variant}: what was trained is not what its masks leave of the network")
    weights = encode_weights(shrunk.network)
    encoded = encode_masks(dense.masks)
    model = project.settings.model
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        made_from={**made_from, FORMAT: SCHEMA},
        masks_from=PRUNING,
        effective_masks_sha256=sha256_of_bytes(encoded),
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    write_shrink_plan(project.variant_folder(variant), file, weights, encoded)
    return shrunk


def full_size_network(original: nn.Module, masks: Masks, dense: nn.Module, inputs: Inputs) -> nn.Module:
    """Return the full-size network that a variant's dense network stands for, under the variant's masks, in eval mode.

    `original`: the network that pruning began with; it is not changed. `inputs`: N x ..., to trace it with. Raises
    CoopexportError when masks and dense network do not belong together.
    """
    groups = channel_groups(copied(original), inputs)
    removed = np.ones(groups.count, dtype=np.bool_)
    for name, found in groups.of_layer.items():
        keep = masks.keep.get(name, np.ones(len(found), dtype=np.bool_))
        left = found[keep]
        removed[left[left >= 0]] = False
    made, full = without_groups(groups, state_of(original), removed, masks.origin)
    wanted, found_state = made.network.state_dict(), dense.state_dict()
    if {name: tensor.shape for name, tensor in wanted.items()} != {n: t.shape for n, t in found_state.items()}:
        raise StaleError("the variant's weights are not what its masks leave", fix="run: coopexport prune two-step")
    made.network.load_state_dict(found_state)
    groups.traced.network.load_state_dict(write_back(made, full))
    return groups.traced.network.eval()
