"""What a variant is made by, a shrink plan or a bottleneck: whether it is there, still holds, and its network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from exporter.bottleneck.plan import BOTTLENECK_FILE, BottleneckFile, read_bottleneck, rebuild_bottleneck
from exporter.project.freshness import FORMAT, check_fresh, digest
from exporter.project.inputs import file_digest, project_inputs
from exporter.project.settings import Project
from exporter.shrinking.plan import PLAN_FILE, ShrinkFile, read_shrink_plan
from exporter.shrinking.rebuild import rebuild

if TYPE_CHECKING:
    import torch
    from torch import nn

ORIGINAL, PRUNED, STEP_ONE = "original", "pruned", "step1"
# In a plan's masks_from: the masks came out of pruning here, and every weight from model.checkpoint.
PRUNING = "pruning"


def plan_is_here(project: Project, variant: str) -> bool:
    """Tell whether what a variant is made by is on this machine."""
    return has_plan(project.variant_folder(variant))


def has_plan(folder: Path) -> bool:
    """Tell whether a folder has the plan of a variant."""
    return any((folder / name).is_file() for name in (PLAN_FILE, BOTTLENECK_FILE))


def bottleneck_of(project: Project, variant: str) -> BottleneckFile | None:
    """Return a variant's bottleneck, or None; raises CoopexportError when its plan is malformed."""
    folder = project.variant_folder(variant)
    return read_bottleneck(folder) if (folder / BOTTLENECK_FILE).is_file() else None


def plan_inputs(project: Project, variant: str) -> dict[str, str | None]:
    """Return what a variant's network is made by, the checkpoint or its plan; None where that is not here."""
    if variant == ORIGINAL:
        return project_inputs(project, "checkpoint")
    folder = project.variant_folder(variant)
    if (folder / BOTTLENECK_FILE).is_file():
        return {"bottleneck plan": read_bottleneck(folder).network_digest()}
    return {"shrink plan": read_shrink_plan(folder).network_digest() if (folder / PLAN_FILE).is_file() else None}


def load_variant(project: Project, variant: str) -> nn.Module:
    """Return the PyTorch network of a variant, in eval mode; raises CoopexportError."""
    from exporter.project.checkpoint import load_network

    model = project.settings.model
    if variant == ORIGINAL:
        return load_network(model.factory, model.arguments, project.path(model.checkpoint), project.folder)
    folder = project.variant_folder(variant)
    found = bottleneck_of(project, variant)
    if found is None:
        return rebuild(folder, project.folder)
    return rebuild_bottleneck(folder, load_variant(project, found.parent), noise(project, 2))


def noise(project: Project, count: int) -> torch.Tensor:
    """Return seeded noise as the network takes it, count x input_shape, float32."""
    import torch

    generator = np.random.default_rng(0)
    shape = (count, *project.settings.model.input_shape)
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def check_plan(project: Project, variant: str) -> None:
    """Raise StaleError when a variant is older than what it was made from; a source that is gone proves nothing.

    `variant`: one with a plan.
    """
    found = bottleneck_of(project, variant)
    if found is not None:
        if found.parent != ORIGINAL and plan_is_here(project, found.parent):
            check_plan(project, found.parent)
        made_from, now = found.made_from, {**parent_inputs(project, found.parent), **_model_settings(project)}
        check_fresh(f"variant {variant} was made", made_from, now, command_of(project, variant))
        return
    plan = read_shrink_plan(project.variant_folder(variant))
    if plan.masks_from == PRUNING:
        now = {**project_inputs(project, "checkpoint"), **_model_settings(project)}
    else:
        now = shrink_inputs(project, plan.masks_from, plan.masks_file)
    if FORMAT not in plan.made_from:  # by an earlier version, which noted less
        model = project.settings.model
        noted = set(plan.made_from)
        if (model.factory, model.arguments) != (plan.factory, plan.arguments):
            noted.add("model settings")
        now = {name: value for name, value in now.items() if name in noted}
    check_fresh(f"variant {variant} was made", plan.made_from, now, command_of(project, variant))


def parent_inputs(project: Project, parent: str) -> dict[str, str | None]:
    """Return what a bottleneck that is put into `parent` is made from; None where that is not here."""
    inputs = plan_inputs(project, parent)
    return {"parent": None if None in inputs.values() else digest(inputs)}


def _model_settings(project: Project) -> dict[str, str | None]:
    return project_inputs(project, "model settings")


def shrink_inputs(project: Project, masks_from: str, masks_file: str | None) -> dict[str, str | None]:
    """Return what the variant `pruned` is made from; `masks_from`, `masks_file`: as its plan says where masks are from.

    Unlike one that was trained, it must be what its masks leave of the network as the code is now.
    """
    model = project.settings.model
    now = project_inputs(project, "network code", "model settings")
    now["checkpoint"] = file_digest(project.path(model.pruned_checkpoint or model.checkpoint))
    masks = masks_file or model.masks
    if masks_from == "file" and masks is not None:
        now["masks"] = file_digest(project.path(masks))
    return now


def command_of(project: Project, variant: str) -> str:
    """Return the command that makes a variant anew."""
    found = bottleneck_of(project, variant)
    if found is not None:
        parent = "" if found.parent == ORIGINAL else f" --variant {found.parent}"
        return f"coopexport bottleneck --layer {found.layer}{parent} --replace"
    plan: ShrinkFile = read_shrink_plan(project.variant_folder(variant))
    return "coopexport prune two-step" if plan.masks_from == PRUNING else "coopexport shrink"
