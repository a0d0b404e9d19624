"""What two-step pruning of a project works with, loaded once: network, data, evaluation, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from calibration.metrics import metric
from calibration.variants.register import open_evaluation
from calibration.variants.variant_maker import VariantMaker
from exporter.progress import OnProgress
from exporter.project.checkpoint import load_network
from exporter.project.freshness import MadeFrom, digest, recorded
from exporter.project.inputs import project_inputs
from exporter.project.settings import Project, PruneSection, TrainingSection
from exporter.pruning.channel_groups import channel_groups
from exporter.pruning.dense_network import state_of
from exporter.pruning.session import PruningSession
from exporter.tracing.trace import copied, run_network
from exporter.training.losses import load_loss
from exporter.training.placement import choose_device, memory_named, thread_count
from exporter.training.random_state import seeded
from exporter.training.training_set import TrainingSet, load_training_set, with_validation
from exporter.variants.layer_graphs import example_inputs

_OF_STEP_TWO = ("widths", "step_two_epochs", "step_two_learning_rate")


def open_pruning(
    project: Project,
    series: str | None,
    settings: PruneSection,
    training: TrainingSection,
    on_progress: OnProgress,
    on_warning: Callable[[str], None],
) -> VariantMaker:
    """Load what pruning needs, once; raises CoopexportError when network, data or metric are missing or malformed.

    `series`: put before the variants' names; `on_progress` gets the name of each training, its steps done and all;
    `on_warning` what of an interrupted one is damaged.
    """
    model = project.settings.model
    checkpoint = project.path(model.checkpoint)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    data, validation = with_validation(project, load_training_set(project))
    step_one = pruning_inputs(project, settings, training)
    step_two = step_two_inputs(step_one, settings)
    folder = project.output / "pruning" / (series or "two-step")
    folder.mkdir(parents=True, exist_ok=True)
    session = PruningSession(
        groups=channel_groups(copied(network), inputs),
        base=state_of(network),
        data=data,
        evaluate=evaluator(project, validation, training),
        loss=load_loss(training, project.folder),
        training=training,
        settings=settings,
        teacher=network if training.distillation_weight > 0 else None,
        made_from=step_one,
        folder=folder,
        project_folder=project.folder,
        on_progress=on_progress,
        on_warning=on_warning,
        validation=validation,
    )
    evaluation = open_evaluation(project)
    return VariantMaker(project, series, session, step_two, evaluation, inputs)


def pruning_inputs(project: Project, settings: PruneSection, training: TrainingSection) -> dict[str, str]:
    """Return what step 1 of pruning is made from; step 2 has settings of its own besides."""
    step_one = {key: value for key, value in settings.model_dump(mode="json").items() if key not in _OF_STEP_TWO}
    names = ("checkpoint", "network code", "model settings", "preprocessing", "training data", "validation data",
             "metric", "loss")  # fmt: skip
    now = project_inputs(project, *names)
    return recorded(
        {
            **now,
            "validation data": now["validation data"] or digest("a share of the training data"),
            "prune settings": digest(step_one),
            "training settings": digest(training.model_dump(mode="json")),
        }
    )


def step_two_inputs(step_one: MadeFrom, settings: PruneSection) -> dict[str, str]:
    """Return what step 2 of pruning is made from, given what step 1 is."""
    own = {key: value for key, value in settings.model_dump(mode="json").items() if key in _OF_STEP_TWO}
    return {**step_one, "step two settings": digest(own)}


def evaluator(project: Project, data: TrainingSet, training: TrainingSection) -> Callable[[nn.Module], float]:
    """Return a function that gives a network's metric on `data`, in eval mode."""
    chosen = metric.load_metric(project)
    device = choose_device(training.device)
    at_once = training.batch_images

    def evaluate(network: nn.Module) -> float:
        outputs, labels = [], []
        with memory_named(at_once), thread_count(training.threads), seeded(training.seed, device):
            try:
                network.eval().to(device)
                for start in range(0, len(data), at_once):
                    indices = np.arange(start, min(start + at_once, len(data)))
                    batch = torch.from_numpy(data.inputs(indices)).to(device)
                    outputs.append(run_network(network, batch)[0].cpu().numpy())
                    labels.append(data.labels(indices))  # of the samples that were just read
            finally:
                network.to("cpu")
        return metric.score(chosen, np.concatenate(outputs), np.concatenate(labels)).value

    return evaluate
