"""Turns trained networks into registered variants of a project; what a pruning is asked for, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from calibration.variants.register import Evaluation, Lineage, register_variant
from exporter.layers.candidates import Layer
from exporter.parity import UnprovenError
from exporter.project.settings import Project, PruneSection, TrainingSection
from exporter.pruning.rounds import Spent, Trained
from exporter.pruning.step_one import Round
from exporter.pruning.work import PruningWork
from exporter.tracing.trace import run_network
from exporter.variants.pruned_variant import write_pruned_variant
from exporter.variants.record import Step, VariantRecord, read_variant_record
from jetson.errors import CoopexportError


@dataclass(frozen=True)
class PruneRequest:
    """What to prune and how.

    `layers`: the candidates of step 2, as the exported network has them; `series`: put before the variants' names, so
    that several prunings stand beside each other. `controls`: train step 1 on as long as step 2. `named`: the layers
    were asked for, so that one that cannot be pruned is an error. `replace`: delete variants of another pruning.
    """

    settings: PruneSection
    training: TrainingSection
    layers: tuple[Layer, ...]
    series: str | None = None
    controls: bool = True
    named: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Listener:
    """Who is told how it goes: of the start of each training (its name), its steps, rounds of step 1, variants, and
    candidates that are left out (name and reason).
    """

    on_start: Callable[[str], None]
    on_round: Callable[[Round], None]
    on_variant: Callable[[VariantRecord], None]
    on_skipped: Callable[[str, str], None]
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class VariantMaker:
    """Turns trained networks into registered variants, those that are there already aside.

    `work`: of step 1; its recipe says nothing of step 2, whose own is `recipe_of_step_two`.
    """

    project: Project
    request: PruneRequest
    work: PruningWork
    recipe_of_step_two: str
    evaluation: Evaluation
    inputs: torch.Tensor
    checkpoint_sha256: str
    listener: Listener

    def name(self, suffix: str) -> str:
        """Return the name of a variant of this series."""
        return suffix if self.request.series is None else f"{self.request.series}-{suffix}"

    def recipe(self, step: Step) -> str:
        """Return the hash of all that decides what a variant of `step` is."""
        return self.work.recipe if step == "step1" else self.recipe_of_step_two

    def register(self, suffix: str, parent: str, step: Step, trained: Trained, since: Spent, **more: Any) -> bool:
        """Write and register one variant; False where it is left out. `since`: what was spent when step 1 was done.

        Left out is what says the same of every image, and after step 1 what cannot be proven: with a channel or two
        left, outputs may hardly depend on the image, so that rounding is as large as they are.
        """
        variant = self.name(suffix)
        record = _registered(self.project, variant, self.recipe(step), more.get("cuts"))
        if record is None and _is_constant(trained.dense.network, self.inputs):
            self.listener.on_skipped(variant, "what it says no longer depends on the image: too little is left")
            return False
        try:
            record = self._made(variant, parent, step, trained, since, more) if record is None else record
        except UnprovenError as error:
            if step == "step1":
                raise
            self.listener.on_skipped(variant, str(error))
            return False
        self.listener.on_variant(record)
        return True

    def _made(
        self, variant: str, parent: str, step: Step, trained: Trained, since: Spent, more: dict[str, Any]
    ) -> VariantRecord:
        write_pruned_variant(self.project, variant, trained.dense, trained.full, self.inputs, self.checkpoint_sha256)
        cuts = more.pop("cuts", None)
        method = {
            "command": "prune two-step",
            "criterion": self.work.settings.criterion,
            "recipe_sha256": self.recipe(step),
            **more,
        }
        training = {
            "epochs": trained.spent.epochs,
            "images": trained.spent.images,
            "seconds": trained.spent.seconds,
            "images_since_step1": trained.spent.images - since.images,
        }
        lineage = Lineage(parent, self.request.series, step, method, cuts, training)
        return register_variant(self.project, variant, lineage, self.evaluation)


def _registered(project: Project, variant: str, recipe: str, cuts: tuple[str, ...] | None) -> VariantRecord | None:
    """Return a variant's record, when it was made by this recipe, and for these cuts at least, already."""
    try:
        record = read_variant_record(project.variant_folder(variant))
    except CoopexportError:
        return None
    covered = record.cuts == cuts or set(cuts or ()) <= set(record.cuts or ())
    return record if covered and record.method.get("recipe_sha256") == recipe else None


def _is_constant(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Tell whether a network gives the same for all inputs, as one does whose last channel has died."""
    return all(bool((output == output[:1]).all()) for output in run_network(network.eval(), inputs))
