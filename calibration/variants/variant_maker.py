"""Turns trained networks into registered variants of a project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from calibration.variants.register import Evaluation, Lineage, register_variant
from exporter.project.freshness import FORMAT, MadeFrom, changed_inputs
from exporter.project.settings import Project
from exporter.pruning.rounds import Spent, Trained
from exporter.pruning.session import PruningSession
from exporter.shrinking.plan import SCHEMA, read_shrink_plan
from exporter.tracing.trace import run_network
from exporter.variants.pruned_variant import write_pruned_variant
from exporter.variants.record import Step, VariantRecord, read_variant_record
from jetson.errors import DamagedFileError, ParityError, StaleError


@dataclass(frozen=True)
class LeftOut:
    """A variant or a candidate layer that there is no variant of, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class VariantMaker:
    """Turns trained networks into registered variants, those that are there already aside.

    `series`: put before the variants' names. `session`: of step 1; what it is made from says nothing of step 2, which
    is made from `step_two`.
    """

    project: Project
    series: str | None
    session: PruningSession
    step_two: MadeFrom
    evaluation: Evaluation
    inputs: torch.Tensor

    def name(self, suffix: str) -> str:
        """Return the name of a variant of this series."""
        return suffix if self.series is None else f"{self.series}-{suffix}"

    def made_from(self, step: Step) -> MadeFrom:
        """Return digests of all that decides what a variant of `step` is."""
        return self.session.made_from if step == "step1" else self.step_two

    def register(
        self, suffix: str, parent: str, step: Step, trained: Trained, since: Spent, **more: Any
    ) -> VariantRecord | LeftOut:
        """Write and register one variant, or leave it out. `since`: what was spent when step 1 was done.

        Left out is what says the same of every image, and after step 1 what cannot be proven: with a channel or two
        left, outputs may hardly depend on the image, so that rounding is as large as they are.
        """
        variant = self.name(suffix)
        record = _registered(self.project, variant, self.made_from(step), more.get("cuts"))
        if record is None and _is_constant(trained.dense.network, self.inputs):
            return LeftOut(variant, "what it says no longer depends on the image: too little is left")
        try:
            return self._made(variant, parent, step, trained, since, more) if record is None else record
        except ParityError as error:
            if step == "step1":
                raise
            return LeftOut(variant, str(error))

    def _made(
        self, variant: str, parent: str, step: Step, trained: Trained, since: Spent, more: dict[str, Any]
    ) -> VariantRecord:
        write_pruned_variant(self.project, variant, trained.dense, trained.full, self.inputs, self.made_from(step))
        cuts = more.pop("cuts", None)
        method = {
            "command": "prune two-step",
            "criterion": self.session.settings.criterion,
            **more,
        }
        training = {
            "epochs": trained.spent.epochs,
            "images": trained.spent.images,
            "seconds": trained.spent.seconds,
            "images_since_step1": trained.spent.images - since.images,
        }
        lineage = Lineage(parent, self.series, step, method, cuts, training)
        return register_variant(self.project, variant, lineage, self.evaluation)


def _registered(project: Project, variant: str, now: MadeFrom, cuts: tuple[str, ...] | None) -> VariantRecord | None:
    """Return a variant's record, when it was made from the same, and for these cuts at least, already."""
    folder = project.variant_folder(variant)
    try:
        record, plan = read_variant_record(folder), read_shrink_plan(folder)
    except (StaleError, DamagedFileError):
        return None
    covered = record.cuts == cuts or set(cuts or ()) <= set(record.cuts or ())
    return record if covered and not changed_inputs(plan.made_from, {**now, FORMAT: SCHEMA}) else None


def _is_constant(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Tell whether a network gives the same for all inputs, as one does whose last channel has died."""
    return all(bool((output == output[:1]).all()) for output in run_network(network.eval(), inputs))
