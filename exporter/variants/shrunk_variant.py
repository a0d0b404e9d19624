"""Shrink the network of a project: find its masks, shrink, write plan, weights and masks of the variant `pruned`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.masks.dictionaries import read_any_masks
from exporter.masks.importers import from_batch_norm_gammas, from_zero_weights
from exporter.masks.masked_network import check_masks
from exporter.masks.masks import Masks, encode_masks
from exporter.project.checkpoint import load_network
from exporter.project.freshness import FORMAT, recorded
from exporter.project.settings import Project
from exporter.shrinking.plan import PLAN_FILE, SCHEMA, WEIGHTS_FILE, ShrinkFile, encode_weights, write_shrink_plan
from exporter.shrinking.removal import ROUNDED, ShrinkOptions, plan_removal
from exporter.shrinking.shrink import Shrunk, shrink
from exporter.tracing.layer_ends import output_layers
from exporter.tracing.trace import trace
from exporter.tracing.weight_layout import filters_of
from exporter.variants.layer_graphs import example_inputs
from exporter.variants.plans import PRUNED, shrink_inputs
from jetson.errors import InputError
from jetson.files.atomic_files import sha256_of_bytes

MasksFrom = Literal["file", "zero-weights", "batch-norm"]


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
class ShrunkVariant:
    """A project's shrunk network: the network before, the masks as given and as used, and the plan's path."""

    before: nn.Module
    given: Masks
    masks: Masks
    shrunk: Shrunk
    path: Path


def write_shrunk_variant(project: Project, request: ShrinkRequest) -> ShrunkVariant:
    """Shrink a project's network and write plan, weights and masks; raises CoopexportError, then nothing is written."""
    _check_request(request)
    model = project.settings.model
    checkpoint = project.path(model.pruned_checkpoint or model.checkpoint)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    given = find_masks(project, network, inputs, request)
    masks = revived(network, given, inputs, request.options) if request.revive else given
    shrunk = shrink(network, masks, inputs, request.options)
    weights = encode_weights(shrunk.network)
    encoded = encode_masks(masks)
    masks_file = None if request.masks_file is None else str(request.masks_file.resolve())
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        made_from=recorded({**shrink_inputs(project, request.masks_from, masks_file), FORMAT: SCHEMA}),
        masks_from=request.masks_from,
        masks_file=masks_file,
        effective_masks_sha256=sha256_of_bytes(encoded),
        options={**asdict(request.options), "revive": request.revive},
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    folder = project.variant_folder(PRUNED)
    write_shrink_plan(folder, file, weights, encoded)
    return ShrunkVariant(network, given, masks, shrunk, folder / PLAN_FILE)


def _check_request(request: ShrinkRequest) -> None:
    """Raise InputError when a request contradicts itself."""
    if request.options.fold_borders and request.options.approximate is not None:
        raise InputError("--fold-borders is exact and --approximate is not: give one of them")
    if request.masks_file is not None and request.masks_from != "file":
        raise InputError(
            f"--masks FILE and --masks-from {request.masks_from} name two sources of masks: give one of them"
        )


def find_masks(project: Project, network: nn.Module, inputs: torch.Tensor, request: ShrinkRequest) -> Masks:
    """Return the masks that a request asks for; raises CoopexportError."""
    if request.masks_from == "zero-weights":
        masks = from_zero_weights(network)
    elif request.masks_from == "batch-norm":
        masks = from_batch_norm_gammas(network, inputs, request.gamma_threshold)
    else:
        name = project.settings.model.masks
        if request.masks_file is None and name is None:
            raise InputError(
                "there are no masks to shrink by: set model.masks in the project file, or pass --masks FILE, or "
                "--masks-from zero-weights (or batch-norm)"
            )
        path = request.masks_file if request.masks_file is not None else project.path(name or "")
        return read_any_masks(path, network)
    outputs = output_layers(trace(network, inputs))  # what is zero there is an answer all the same
    masks = replace(masks, keep={name: keep for name, keep in masks.keep.items() if name not in outputs})
    if all(keep.all() for keep in masks.keep.values()):
        where = "filters whose weights are all zero" if request.masks_from == "zero-weights" else "gammas so small"
        raise InputError(f"the checkpoint has no {where}: there is nothing to shrink by", fix="pass --masks FILE")
    return masks


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
        raise InputError("--round-to-revive needs --round-to, the multiple to come up to")
    traced = trace(network, inputs)
    check_masks(traced, masks)
    norms = filter_norms(network, masks)
    plan, _ = plan_removal(traced, masks, options, norms)
    keep = {name: vector.copy() for name, vector in masks.keep.items()}
    for item in plan.kept_although_masked:
        if item.reason.startswith(ROUNDED):
            channels = list(item.channels)
            if not norms[item.layer][channels].all():
                raise InputError(
                    f"--round-to-revive has nothing to bring back in '{item.layer}': the removed filters' weights are "
                    "zero",
                    fix="leave it out, and the width is filled up with zeros",
                )
            keep[item.layer][channels] = True
    return replace(masks, keep=keep, origin=f"{masks.origin}; revived to multiples of {options.round_to}".lstrip("; "))
