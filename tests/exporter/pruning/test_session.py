"""Scores of a network on training data: what is read of it, and when; what is drawn; what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pruning_case import data, pruning_session

from exporter.pruning.dense_network import DenseNetwork, without_groups
from exporter.pruning.session import PruningSession, score_groups
from exporter.training.training_set import TrainingSet
from jetson.errors import CoopexportError


@dataclass(frozen=True)
class Watched:
    """A training set whose samples can be noisy, and that says how many are in use."""

    whole: TrainingSet
    held: list[int]
    noise: float = 0.0
    label_shift: int = 0
    name: str = "watched"
    layout: str = "NCHW"

    def __len__(self) -> int:
        return len(self.whole)

    def inputs(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        self.held.append(len(indices))
        inputs = self.whole.inputs(indices)
        return (inputs + self.noise * np.random.standard_normal(inputs.shape)).astype(np.float32)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return self.whole.labels(indices) + self.label_shift


def whole_network(session: PruningSession) -> DenseNetwork:
    return without_groups(session.groups, session.base, np.zeros(session.groups.count, dtype=np.bool_), "test")[0]


def test_images_are_read_as_they_are_scored(tmp_path: Path) -> None:
    """The loss of a batch is computed before the next one is read: large data is never in memory at once."""
    watched, session = Watched(data(), []), pruning_session(tmp_path)
    read_when_scored: list[int] = []

    def loss(outputs, labels):  # type: ignore[no-untyped-def]
        read_when_scored.append(len(watched.held))
        return session.loss(outputs, labels)

    score_groups(replace(session, data=watched, loss=loss), whole_network(session), 0)
    assert read_when_scored == [1, 2, 3, 4, 5, 6] and watched.held == [16] * 6


def test_random_transforms_of_the_users_follow_the_seed(tmp_path: Path) -> None:
    session = pruning_session(tmp_path)
    session = replace(session, data=Watched(data(), [], noise=1.0))
    before = np.random.get_state()[1].copy()
    first, again, other = (score_groups(session, whole_network(session), seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(before, np.random.get_state()[1]), "and draw nothing from anybody else's"


def test_labels_that_the_network_has_no_class_for_are_named(tmp_path: Path) -> None:
    session = pruning_session(tmp_path)
    with pytest.raises(CoopexportError, match="watched: labels run from 1 to 3, the network has 3 classes"):
        score_groups(replace(session, data=Watched(data(), [], label_shift=1)), whole_network(session), 0)
