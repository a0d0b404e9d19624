"""What a training needs to go on after a kill, in one file: `coopexport.training-state/1.0`.

The SHA-256 of what follows (32 bytes), then what torch.save writes of tensors, numbers, strings and plain containers.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exporter.progress import ignore
from exporter.training import random_state
from jetson.files.atomic_files import write_file

SCHEMA = "coopexport.training-state/1.0"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class TrainingParts:
    """All that changes while training."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    device: torch.device


@dataclass(frozen=True)
class Progress:
    """How far a training is. `losses`: the mean of each epoch; `best_weights`: a state dict, where they are kept."""

    steps: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()
    best_score: float | None = None
    best_weights: dict[str, torch.Tensor] | None = None
    epochs_without_gain: int = 0
    stopped_early: bool = False


def write_state(file: Path, recipe: str, progress: Progress, parts: TrainingParts) -> None:
    """Write everything that the training needs to go on from here with the same bits; raises OSError."""
    content = {
        "schema": SCHEMA,
        "recipe": recipe,
        "parts": _description(parts),
        "progress": dict(vars(progress)),
        "network": parts.network.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "scaler": parts.scaler.state_dict(),
        "order": parts.generator.get_state(),
        "random": random_state.snapshot(parts.device),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    write_file(str(file), hashlib.sha256(data).digest() + data)


def read_state(
    file: Path, recipe: str, parts: TrainingParts, on_warning: Callable[[str], None] = ignore
) -> Progress | None:
    """Put `parts` back to where `file` says they were and return how far that is.

    None, and `parts` as they are, when there is no such file, it is of another recipe, schema, network or optimizer, or
    it is damaged, of which `on_warning` is told. Raises OSError when it cannot be read.
    """
    try:
        written = file.read_bytes()
    except FileNotFoundError:
        return None
    data = written[_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != written[:_DIGEST_BYTES]:
        on_warning(f"{file} is damaged; training starts anew")
        return None
    content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    expected = {"schema": SCHEMA, "recipe": recipe, "parts": _description(parts)}
    if any(content.get(key) != value for key, value in expected.items()):
        return None
    parts.network.load_state_dict(content["network"])
    parts.optimizer.load_state_dict(content["optimizer"])
    parts.scaler.load_state_dict(content["scaler"])
    parts.generator.set_state(content["order"])
    random_state.restore(content["random"], parts.device)
    return Progress(**content["progress"])


def _description(parts: TrainingParts) -> str:
    """Return what a state must agree in, for it to fit at all."""
    tensors = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in parts.network.state_dict().items()]
    trained = [len(group["params"]) for group in parts.optimizer.param_groups]
    return f"{type(parts.optimizer).__name__} of {trained} in {'; '.join(tensors)}"
