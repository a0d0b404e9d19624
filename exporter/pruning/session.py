"""What both steps of pruning work with: the network's groups, data, training, and how a network is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.progress import OnProgress, ignore, no_progress
from exporter.project.freshness import MadeFrom, digest
from exporter.project.settings import CROSS_ENTROPY, PruneSection, TrainingSection
from exporter.pruning.channel_groups import ChannelGroups
from exporter.pruning.criteria import Evidence, Loss, score_channels
from exporter.pruning.dense_network import DenseNetwork, State, without_groups, write_back
from exporter.pruning.ranking import group_scores, scored_layers
from exporter.training.batches import iterate
from exporter.training.fit import FitResult, fit
from exporter.training.losses import check_labels
from exporter.training.placement import choose_device, memory_named, thread_count, to_device
from exporter.training.random_state import seeded
from exporter.training.training_set import TrainingSet, part_of
from jetson.files.atomic_files import sha256_of_bytes

# Files of a run, in the project's out/pruning/<series>.
STATE_FILE = "training.state"


@dataclass(frozen=True)
class PruningSession:
    """All that pruning needs, loaded once.

    `groups`: of the network, which is loaded with other weights as the work goes on; `base`: the weights that it
    begins with; `evaluate`: the metric of a network in eval mode on validation data, higher is better; `teacher`: the
    unpruned network, where its outputs are to be learned; `made_from`: digests of all that decides the result;
    `folder`: for what an interrupted run goes on from; `on_progress` gets the name of each training, its steps done and
    all, `on_warning` what of it must be done anew; `validation`: what training.patience looks at.
    """

    groups: ChannelGroups
    base: State
    data: TrainingSet
    evaluate: Callable[[nn.Module], float]
    loss: Loss
    training: TrainingSection
    settings: PruneSection
    teacher: nn.Module | None
    made_from: MadeFrom
    folder: Path
    project_folder: Path
    on_progress: OnProgress = no_progress
    on_warning: Callable[[str], None] = ignore
    validation: TrainingSet | None = None

    @property
    def origin(self) -> str:
        """Say who made the masks."""
        return f"two-step pruning, criterion {self.settings.criterion}"


@dataclass(frozen=True)
class Tuning:
    """The training after a removal: epochs (may be a fraction), seed, learning rate (None: the project's)."""

    epochs: float
    seed: int
    learning_rate: float | None = None


def score_groups(session: PruningSession, dense: DenseNetwork, seed: int) -> NDArray[np.float64]:
    """Return the score of every group that is left, on training data without augmentation, read batch by batch.

    `seed`: of the images that are chosen, and of what the user's transforms draw. Raises CoopexportError when labels
    and network do not fit, or the GPU's memory is too small.
    """
    device = choose_device(session.training.device)
    count = (
        len(session.data)
        if session.settings.score_images is None
        else min(session.settings.score_images, len(session.data))
    )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(session.data))[:count])
    drawn = part_of(session.data, chosen)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, labels in iterate(drawn, session.training.batch_images, None):
            yield to_device(inputs, device), to_device(labels, device)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if session.training.loss == CROSS_ENTROPY:
            check_labels(outputs.shape, labels, session.data.name)
        return session.loss(outputs, labels)

    network = dense.network.eval()
    evidence = Evidence(network, session.groups.traced, scored_layers(dense), batches, loss, seed)
    with memory_named(session.training.batch_images), thread_count(session.training.threads), seeded(seed, device):
        try:
            network.to(device)
            scores = score_channels(session.settings.criterion, evidence)
        finally:
            network.to("cpu")
    return group_scores(dense, scores, by_rank=session.settings.normalisation == "rank")


def fresh_copy(session: PruningSession, dense: DenseNetwork, full: State) -> tuple[DenseNetwork, State]:
    """Return the same network anew, so that training it leaves `dense` as it is."""
    return without_groups(session.groups, full, dense.removed, session.origin)


def fine_tune(
    session: PruningSession, dense: DenseNetwork, full: State, tuning: Tuning, label: str
) -> tuple[State, FitResult]:
    """Train the dense network in place, and return the full-size weights that it stands for, and what was spent.

    Training that was killed goes on from its last whole epoch.
    """
    training = session.training
    if tuning.learning_rate is not None:
        training = training.model_copy(update={"learning_rate": tuning.learning_rate})
    state_file = session.folder / STATE_FILE
    result = fit(
        dense.network,
        session.data,
        training,
        epochs=tuning.epochs,
        seed=tuning.seed,
        teacher=session.teacher,
        validation=session.validation if training.patience is not None else None,
        state_file=state_file,
        recipe=f"{digest(dict(session.made_from))} {label} {sha256_of_bytes(dense.removed.tobytes())}",
        on_progress=lambda done, total: session.on_progress(label, done, total),
        on_warning=session.on_warning,
        folder=session.project_folder,
    )
    return write_back(dense, full), result
