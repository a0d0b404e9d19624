"""Where pruning stands: one file per round, so that a killed run goes on with the round that it was in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.project.freshness import FORMAT, MadeFrom, changed_inputs
from exporter.pruning.channel_groups import ChannelGroups
from exporter.pruning.dense_network import DenseNetwork, State, without_groups, write_back
from jetson.errors import StaleError, UnsupportedError
from jetson.files.atomic_files import write_file

SCHEMA = "coopexport.pruning-snapshot/1.1"
_REMOVED, _WEIGHTS = "removed", "weights."


def write_snapshot(path: Path, dense: DenseNetwork, made_from: MadeFrom, content: Mapping[str, Any]) -> None:
    """Write the dense network's weights, what is removed, `made_from` and `content`, atomically; raises OSError."""
    from safetensors.torch import save

    tensors = {_WEIGHTS + name: tensor.clone().contiguous() for name, tensor in dense.network.state_dict().items()}
    tensors[_REMOVED] = torch.from_numpy(dense.removed)
    metadata = {"schema": SCHEMA, "made_from": json.dumps(dict(made_from)), "content": json.dumps(dict(content))}
    write_file(str(path), save(tensors, metadata))


def read_snapshot(
    path: Path, groups: ChannelGroups, base: State, made_from: MadeFrom, origin: str
) -> tuple[DenseNetwork, State, dict[str, Any]] | None:
    """Return what `write_snapshot` wrote: the dense network, its full-size weights, and the content.

    `base`: the weights that pruning began with. None when the file is missing or damaged, or what it was made
    from is not `made_from`: that round must be done.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {**json.loads(metadata["made_from"]), FORMAT: metadata.get("schema")}
            if changed_inputs(stored, {**made_from, FORMAT: SCHEMA}):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            content = json.loads(metadata["content"])
        dense, full = without_groups(groups, base, tensors.pop(_REMOVED).numpy().astype(np.bool_), origin)
        dense.network.load_state_dict({name.removeprefix(_WEIGHTS): tensor for name, tensor in tensors.items()})
        return dense, write_back(dense, full), content
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, UnsupportedError, StaleError):
        return None
