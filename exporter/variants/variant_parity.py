"""Prove shrunk variants equal to the masked network again, from their files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from exporter import parity
from exporter.masks.masked_network import masked_network
from exporter.masks.masks import read_masks
from exporter.parity import Parity
from exporter.project.checkpoint import load_network
from exporter.project.settings import Project
from exporter.shrinking.plan import MASKS_FILE, PLAN_FILE, WEIGHTS_FILE, read_shrink_plan
from exporter.shrinking.rebuild import rebuild
from exporter.shrinking.shrink import chosen_bound, compare, float32_bound
from exporter.shrinking.slice_modules import apply_shrink_plan
from exporter.variants.choice import chosen_variants, naming
from exporter.variants.layer_graphs import example_inputs
from exporter.variants.plans import ORIGINAL, PRUNED, PRUNING, bottleneck_of, check_plan
from exporter.variants.pruned_variant import full_size_network
from jetson.errors import StaleError
from jetson.files.atomic_files import sha256_of_file

_BATCH_SIZES = (1, 2, 7)


@dataclass(frozen=True)
class ParityRequest:
    """Which variants to prove again (names or patterns); none: all that were pruned."""

    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class VariantParity:
    """A variant that holds, and the checks that it passed."""

    variant: str
    checks: tuple[Parity, ...]


@dataclass(frozen=True)
class ParityResult:
    """The variants that were proven equal, in the project's order."""

    variants: tuple[VariantParity, ...]


def variants_parity(
    project: Project, request: ParityRequest, on_result: Callable[[VariantParity], None] | None = None
) -> ParityResult:
    """Prove pruned variants equal again, from the files alone; `on_result` gets each as soon as it is proven.

    Raises CoopexportError naming the first variant and check that does not hold, when a variant does not exist, and
    when there is none that was pruned.
    """
    chosen = [choice.name for choice in chosen_variants(project, request.variants) if choice.name != ORIGINAL]
    names = [name for name in chosen if bottleneck_of(project, name) is None]  # those compute something else by design
    if not names:
        raise StaleError("there is no pruned network to verify: run coopexport shrink or coopexport prune first")
    proven = []
    for name in names:
        with naming(name):
            verified = VariantParity(name, variant_parity(project, name))
        proven.append(verified)
        if on_result is not None:
            on_result(verified)
    return ParityResult(tuple(proven))


def variant_parity(project: Project, variant: str = PRUNED) -> tuple[Parity, ...]:
    """Prove a shrunk network equal again, from the files alone, at several batch sizes.

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
    check_plan(project, variant)
    if not masks_path.is_file() or sha256_of_file(str(masks_path)) != file.effective_masks_sha256:
        command = "coopexport prune two-step" if by_pruning else "coopexport shrink"
        message = f"{masks_path} is not what {PLAN_FILE} was written with"
        raise StaleError(message, path=masks_path, fix=f"run: {command}")
    network = load_network(file.factory, file.arguments, checkpoint, project.folder)
    masks = read_masks(masks_path)
    small = rebuild(folder, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    if by_pruning:
        network = full_size_network(network, masks, small, inputs)
    _check_same_weights(apply_shrink_plan(network, file), small)
    approximate = file.options.get("approximate")
    in_double = copy.deepcopy(network).double()
    masked_double = masked_network(in_double, masks, inputs.double())
    bound = chosen_bound(approximate, parity.SHRINK_BOUND)
    checks = [compare(masked_double, apply_shrink_plan(in_double, file), inputs.double(), "shrink", bound)]
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


def _check_same_weights(made: nn.Module, stored: nn.Module) -> None:
    wanted, found = made.state_dict(), stored.state_dict()
    for name, tensor in wanted.items():
        if name not in found or not torch.equal(tensor, found[name]):
            raise StaleError(
                f"{WEIGHTS_FILE}: {name} is not what the plan makes of the checkpoint", fix="run: coopexport shrink"
            )
