"""One training of a search, kept as a file, so that a killed search goes on with the training that it was in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from exporter.bottleneck.design import BottleneckDesign
from exporter.bottleneck.training import Task
from exporter.project.freshness import MadeFrom, digest
from exporter.training.weights_file import read_weights, write_weights

SCHEMA = "coopexport.bottleneck-trial/1.0"


@dataclass(frozen=True)
class Trial:
    """A trained bottleneck. `number`: in its search, from 1; `lineage`: a digest of its task and of all before it.

    `score`: the metric on validation data, symbols rounded; `estimated_bytes`: of their code, the mean over the same
    data, by what training counted; `images`, `seconds`: of its own training. `weights`: of the whole network.
    """

    number: int
    task: Task
    lineage: str
    score: float
    estimated_bytes: float
    images: int
    seconds: float
    weights: Mapping[str, torch.Tensor]


def write_trial(path: Path, trial: Trial, made_from: MadeFrom) -> None:
    """Write a trial, and what its search is made from, atomically; raises OSError."""
    content = {key: value for key, value in asdict(trial).items() if key != "weights"}
    write_weights(path, trial.weights, SCHEMA, made_from, content)


def lineage_of(task: Task, start: Trial | None) -> str:
    """Return a digest of a task and of all whose weights it begins with, one after the other."""
    return digest([asdict(task), None if start is None else start.lineage])


def read_trial(path: Path, lineage: str, made_from: MadeFrom) -> Trial | None:
    """Return what `write_trial` wrote; None when it is missing, damaged, or of another lineage, data or settings."""
    read = read_weights(path, SCHEMA, made_from)
    if read is None or read[1].get("lineage") != lineage:
        return None
    weights, content = read
    try:
        given = content.pop("task")
        task = Task(**{**given, "design": BottleneckDesign(**given["design"])})
        return Trial(**content, task=task, weights=weights)
    except (KeyError, TypeError):
        return None
