"""One training of a search, kept as a file, so that a killed search goes on with the training that it was in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from exporter.bottleneck.design import BottleneckDesign
from exporter.bottleneck.training import Task
from exporter.project.freshness import FORMAT, MadeFrom, changed_inputs, digest
from jetson.files.atomic_files import write_file

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
    from safetensors.torch import save

    content = {key: value for key, value in asdict(trial).items() if key != "weights"}
    metadata = {"schema": SCHEMA, "made_from": json.dumps(dict(made_from)), "content": json.dumps(content)}
    write_file(str(path), save({name: one.clone().contiguous() for name, one in trial.weights.items()}, metadata))


def lineage_of(task: Task, start: Trial | None) -> str:
    """Return a digest of a task and of all whose weights it begins with, one after the other."""
    return digest([asdict(task), None if start is None else start.lineage])


def read_trial(path: Path, lineage: str, made_from: MadeFrom) -> Trial | None:
    """Return what `write_trial` wrote; None when it is missing, damaged, or of another lineage, data or settings."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {**json.loads(metadata["made_from"]), FORMAT: metadata.get("schema")}
            if changed_inputs(stored, {**made_from, FORMAT: SCHEMA}):
                return None
            content = json.loads(metadata["content"])
            if content["lineage"] != lineage:
                return None
            content["task"] = Task(**{**content["task"], "design": BottleneckDesign(**content["task"]["design"])})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        return Trial(**content, weights=weights)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
