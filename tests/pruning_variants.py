"""Variants as pruning in two steps leaves them, made by masks alone: real plans, weights and records, no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from calibration.variants.register import Evaluation, Lineage, open_evaluation, register_variant
from exporter.masks.masks import Masks, encode_masks
from exporter.project.checkpoint import load_network
from exporter.project.freshness import recorded
from exporter.project.inputs import project_inputs
from exporter.project.settings import Project
from exporter.shrinking.plan import ShrinkFile, write_shrink_plan
from exporter.shrinking.shrink import shrink
from exporter.variants.layer_graphs import example_inputs
from exporter.variants.plans import PRUNING
from exporter.variants.record import Step, VariantRecord
from jetson.files.atomic_files import sha256_of_bytes

# Of the first step: layer to channels left, of the test project's 12.
STEP1_WIDTHS = {"conv4_2": 8, "conv4_3": 8, "conv5_1": 6}


def write_pruned(project: Project, variant: str, widths: Mapping[str, int], bias: float = 0.0) -> None:
    """Write plan, weights and masks of a variant whose layers keep their first channels; no record.

    `widths`: channels left by layer. `bias`: added to the last layer's first score, as training might.
    """
    model = project.settings.model
    checkpoint = project.path(model.checkpoint)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    with torch.no_grad():
        network.classifier.bias[0] += bias
    keep = {
        f"features.{name}": np.arange(network.get_submodule(f"features.{name}").out_channels) < width
        for name, width in widths.items()
    }
    masks = Masks(keep, "channel", "test")
    shrunk = shrink(network, masks, torch.from_numpy(example_inputs(project)))
    weights, encoded = save(dict(shrunk.network.state_dict())), encode_masks(masks)
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=model.factory,
        arguments=model.arguments,
        made_from=recorded(project_inputs(project, "checkpoint", "model settings")),
        masks_from=PRUNING,
        effective_masks_sha256=sha256_of_bytes(encoded),
        weights="weights.safetensors",
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    write_shrink_plan(project.variant_folder(variant), file, weights, encoded)


def lineage(step: Step, images: int = 0, layer: str = "", width: int = 0, series: str | None = None) -> Lineage:
    """Return where a variant comes from; `images`: trained on since step 1."""
    method: dict[str, Any] = {"command": "prune two-step"}
    if step == "step2":
        method.update(layer=layer, width=width)
    parent = {"step1": "original"}.get(step, "step1")
    cuts = (layer,) if step == "step2" else None
    training = {"epochs": 0.5, "images": images, "seconds": 1.0, "images_since_step1": images}
    return Lineage(parent, series, step, method, cuts, training)


def write_step1(project: Project, evaluation: Evaluation) -> VariantRecord:
    """Write and register `step1`."""
    write_pruned(project, "step1", STEP1_WIDTHS)
    return register_variant(project, "step1", lineage("step1"), evaluation)


def write_control(project: Project, evaluation: Evaluation, number: int, images: int) -> VariantRecord:
    """Write and register a control: step 1 with another bias, after as many images."""
    name = f"step1-control-{number}"
    write_pruned(project, name, STEP1_WIDTHS, bias=0.1 * number)
    return register_variant(project, name, lineage("control", images), evaluation)


def write_step2(project: Project, evaluation: Evaluation, layer: str, width: int, images: int) -> VariantRecord:
    """Write and register step 2 at one layer."""
    name = f"{layer}-{width}"
    write_pruned(project, name, {**STEP1_WIDTHS, layer: width})
    return register_variant(project, name, lineage("step2", images, layer, width), evaluation)


def write_two_steps(project: Project) -> None:
    """Write and register step 1, two controls, and three widths at each of conv4_1 and conv4_3."""
    evaluation = open_evaluation(project)
    write_step1(project, evaluation)
    for number in (1, 2):
        write_control(project, evaluation, number, 1000 * number)
    for layer in ("conv4_1", "conv4_3"):
        for number, width in enumerate((6, 3, 1), start=1):
            write_step2(project, evaluation, layer, width, 1000 * number)
