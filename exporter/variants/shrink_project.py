"""Shrink the network of a project: find its masks, shrink, write plan, weights and masks; and prove it all again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter import parity
from exporter.masks.dictionaries import read_any_masks
from exporter.masks.importers import from_batch_norm_gammas, from_zero_weights
from exporter.masks.masked_network import check_masks, masked_network
from exporter.masks.masks import Masks, encode_masks, read_masks
from exporter.parity import Parity
from exporter.project.checkpoint import load_network
from exporter.project.settings import Project
from exporter.shrinking.plan import (
    MASKS_FILE,
    PLAN_FILE,
    WEIGHTS_FILE,
    ShrinkFile,
    encode_weights,
    read_shrink_plan,
    write_shrink_plan,
)
from exporter.shrinking.rebuild import rebuild
from exporter.shrinking.removal import ROUNDED, ShrinkOptions, plan_removal
from exporter.shrinking.resize import apply_plan
from exporter.shrinking.shrink import Shrunk, chosen_bound, compare, float32_bound, shrink
from exporter.tracing.layer_ends import output_layers
from exporter.tracing.trace import trace
from exporter.tracing.weight_layout import filters_of
from exporter.variants.layer_graphs import PRUNED, PRUNING, example_inputs
from exporter.variants.pruned_variant import full_size_network
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file

MasksFrom = Literal["file", "zero-weights", "batch-norm"]
_BATCH_SIZES = (1, 2, 7)


@dataclass(frozen=True)
class ShrinkRequest:
    """What to shrink by, and how far.

    `masks_from`: a file (`masks_file`, or the project's), filters whose weights are zero, or batch norms whose gamma
    is at most `gamma_threshold`. `revive`: let rounding bring back removed channels instead of adding zeros.
    """

    masks_file: Path | None = None
    masks_from: MasksFrom = "file"
    gamma_threshold: float = 0.0
    options: ShrinkOptions = field(default_factory=ShrinkOptions)
    revive: bool = False


@dataclass(frozen=True)
class ProjectShrunk:
    """A project's shrunk network: the network before, the masks as given and as used, and the plan's path."""

    before: nn.Module
    given: Masks
    masks: Masks
    shrunk: Shrunk
    path: Path


def shrink_project(project: Project, request: ShrinkRequest) -> ProjectShrunk:
    """Shrink a project's network and write plan, weights and masks; raises CoopexportError, then nothing is written."""
    model = project.settings.model
    checkpoint = project.path(model.pruned_checkpoint or model.checkpoint)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    given, path = find_masks(project, network, inputs, request)
    masks = revived(network, given, inputs, request.options) if request.revive else given
    shrunk = shrink(network, masks, inputs, request.options)
    weights = encode_weights(shrunk.network)
    encoded = encode_masks(masks)
    own_file = request.masks_from == "file" and request.masks_file is None
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        checkpoint_sha256=sha256_of_file(str(checkpoint)),
        masks_from=request.masks_from,
        masks_sha256=None if path is None else sha256_of_file(str(path)),
        masks_file=None if path is None or own_file else str(path.resolve()),
        effective_masks_sha256=sha256_of_bytes(encoded),
        options={**asdict(request.options), "revive": request.revive},
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    folder = project.variant_folder(PRUNED)
    write_shrink_plan(folder, file, weights, encoded)
    return ProjectShrunk(network, given, masks, shrunk, folder / PLAN_FILE)


def find_masks(
    project: Project, network: nn.Module, inputs: torch.Tensor, request: ShrinkRequest
) -> tuple[Masks, Path | None]:
    """Return the masks that a request asks for, and the file that they are in; raises CoopexportError."""
    if request.masks_from == "zero-weights":
        masks = from_zero_weights(network)
    elif request.masks_from == "batch-norm":
        masks = from_batch_norm_gammas(network, inputs, request.gamma_threshold)
    else:
        name = project.settings.model.masks
        if request.masks_file is None and name is None:
            raise CoopexportError(
                "there are no masks to shrink by: set model.masks in the project file, or pass --masks FILE, or "
                "--masks-from zero-weights (or batch-norm)"
            )
        path = request.masks_file if request.masks_file is not None else project.path(name or "")
        return read_any_masks(path, network), path
    outputs = output_layers(trace(network, inputs))  # what is zero there is an answer all the same
    masks = replace(masks, keep={name: keep for name, keep in masks.keep.items() if name not in outputs})
    if all(keep.all() for keep in masks.keep.values()):
        where = "filters whose weights are all zero" if request.masks_from == "zero-weights" else "gammas so small"
        raise CoopexportError(f"the checkpoint has no {where}: there is nothing to shrink by; pass --masks FILE")
    return masks, None


def filter_norms(network: nn.Module, masks: Masks) -> Mapping[str, NDArray[np.float64]]:
    """Return the L1 norm of every masked layer's filters: which removed ones come back first (Li et al. 2017)."""
    norms = {}
    for name in masks.keep:
        module = network.get_submodule(name)
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        norms[name] = filters_of(module, weight).abs().flatten(2).sum(2).double().reshape(-1).numpy()
    return norms


def revived(network: nn.Module, masks: Masks, inputs: torch.Tensor, options: ShrinkOptions) -> Masks:
    """Return `masks` with the most important removed channels back in, so that widths are multiples.

    Raises CoopexportError when the removed filters hold nothing that could be brought back.
    """
    if options.round_to is None:
        raise CoopexportError("--round-to-revive needs --round-to, the multiple to come up to")
    traced = trace(network, inputs)
    check_masks(traced, masks)
    norms = filter_norms(network, masks)
    plan, _ = plan_removal(traced, masks, options, norms)
    keep = {name: vector.copy() for name, vector in masks.keep.items()}
    for item in plan.kept_although_masked:
        if item.reason.startswith(ROUNDED):
            channels = list(item.channels)
            if not norms[item.layer][channels].all():
                raise CoopexportError(
                    f"--round-to-revive has nothing to bring back in '{item.layer}': the removed filters' weights are "
                    "zero; leave it out, and the width is filled up with zeros"
                )
            keep[item.layer][channels] = True
    return replace(masks, keep=keep, origin=f"{masks.origin}; revived to multiples of {options.round_to}".lstrip("; "))


def verify_project(project: Project, variant: str = PRUNED) -> tuple[Parity, ...]:
    """Prove a project's shrunk network equal again, from the files alone, at several batch sizes.

    `variant`: `pruned`, or one that pruning made, whose weights are written back into the full-size network.
    Checkpoint, masks, plan and weights are read and their hashes checked; the plan is applied anew in float64, the
    stored weights are what it makes in float32, and the rebuilt network is run at batch sizes 1, 2, 7 and that of
    the examples. Raises CoopexportError naming the first thing that does not hold.
    """
    folder = project.variant_folder(variant)
    file = read_shrink_plan(folder)
    model = project.settings.model
    by_pruning = file.masks_from == PRUNING
    checkpoint = project.path((None if by_pruning else model.pruned_checkpoint) or model.checkpoint)
    masks_path = folder / MASKS_FILE
    for path, recorded in ((checkpoint, file.checkpoint_sha256), (masks_path, file.effective_masks_sha256)):
        if not path.is_file() or sha256_of_file(str(path)) != recorded:
            command = "coopexport prune two-step" if by_pruning else "coopexport shrink"
            raise CoopexportError(f"{path} is not what {PLAN_FILE} was made from; run: {command}")
    network = load_network(file.factory, file.arguments, checkpoint, project.folder)
    masks = read_masks(masks_path)
    small = rebuild(folder, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    if by_pruning:
        network = full_size_network(network, masks, small, inputs)
    _require_same_weights(apply_plan(network, file), small)
    approximate = file.options.get("approximate")
    in_double = copy.deepcopy(network).double()
    masked_double = masked_network(in_double, masks, inputs.double())
    bound = chosen_bound(approximate, parity.SHRINK_BOUND)
    checks = [compare(masked_double, apply_plan(in_double, file), inputs.double(), "shrink", bound)]
    masked = masked_network(network, masks, inputs)
    bound = chosen_bound(approximate, float32_bound(masked, masked_double, inputs))
    for size in (*_BATCH_SIZES, len(inputs)):
        name = f"shrink-float32, batches of {size}"
        checks.append(compare(masked, _InBatches(small, size), inputs, name, bound))
    return tuple(checks)


class _InBatches(nn.Module):
    """A network that takes its inputs a few at a time."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the outputs for `inputs`, computed in batches of the given size."""
        parts = [self.network(*batch) for batch in zip(*(torch.split(item, self.size) for item in inputs), strict=True)]
        if isinstance(parts[0], torch.Tensor):
            return torch.cat(parts)
        values = [list(part.values()) if isinstance(part, dict) else list(part) for part in parts]
        return [torch.cat(column) for column in zip(*values, strict=True)]


def _require_same_weights(made: nn.Module, stored: nn.Module) -> None:
    wanted, found = made.state_dict(), stored.state_dict()
    for name, tensor in wanted.items():
        if name not in found or not torch.equal(tensor, found[name]):
            raise CoopexportError(
                f"{WEIGHTS_FILE}: {name} is not what the plan makes of the checkpoint; run: coopexport shrink"
            )
