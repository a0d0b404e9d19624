"""A variant that pruning made, as files: the plan, weights and masks that `shrink` writes, proven in the same way."""

from __future__ import annotations

import torch
from safetensors.torch import save

from exporter.masks import encode_masks
from exporter.project import Project
from exporter.pruning.dense_network import DenseNetwork, State
from exporter.shrink import Shrunk, shrink
from exporter.shrink_plan import WEIGHTS_FILE, ShrinkFile, write_shrink_plan
from exporter.tracing import Inputs
from exporter.variants import PRUNING
from jetson.atomic_files import sha256_of_bytes
from jetson.errors import CoopexportError


def write_pruned_variant(
    project: Project, variant: str, dense: DenseNetwork, full: State, inputs: Inputs, checkpoint_sha256: str
) -> Shrunk:
    """Shrink the full-size weights `full` under the masks of `dense`, prove both equal, and write the variant's files.

    `inputs`: to prove it on, N x ...; `checkpoint_sha256`: of the weights that pruning began with. Raises
    CoopexportError when the shrunk network is not `dense`, bit for bit, or the masked one differs from it.
    """
    carrier = dense.groups.traced.network
    carrier.load_state_dict(full)
    shrunk = shrink(carrier, dense.masks, inputs)
    made, trained = shrunk.network.state_dict(), dense.network.state_dict()
    if made.keys() != trained.keys() or not all(torch.equal(made[name], trained[name]) for name in made):
        raise CoopexportError(f"variant {variant}: what was trained is not what its masks leave of the network")
    weights = save({name: tensor.clone().contiguous() for name, tensor in made.items()})
    encoded = encode_masks(dense.masks)
    model = project.settings.model
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        checkpoint_sha256=checkpoint_sha256,
        masks_from=PRUNING,
        effective_masks_sha256=sha256_of_bytes(encoded),
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    write_shrink_plan(project.variant_folder(variant), file, weights, encoded)
    return shrunk
