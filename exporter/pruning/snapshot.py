"""Where pruning stands: one file per round, so that a killed run goes on with the round that it was in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporter.project.freshness import MadeFrom
from exporter.pruning.channel_groups import ChannelGroups
from exporter.pruning.dense_network import DenseNetwork, State, without_groups, write_back
from exporter.training.weights_file import read_weights, write_weights
from jetson.errors import StaleError, UnsupportedError

SCHEMA = "coopexport.pruning-snapshot/1.1"
_REMOVED, _WEIGHTS = "removed", "weights."


def write_snapshot(path: Path, dense: DenseNetwork, made_from: MadeFrom, content: Mapping[str, Any]) -> None:
    """Write the dense network's weights, what is removed, `made_from` and `content`, atomically; raises OSError."""
    tensors = {_WEIGHTS + name: tensor for name, tensor in dense.network.state_dict().items()}
    write_weights(path, {**tensors, _REMOVED: torch.from_numpy(dense.removed)}, SCHEMA, made_from, content)


def read_snapshot(
    path: Path, groups: ChannelGroups, base: State, made_from: MadeFrom, origin: str
) -> tuple[DenseNetwork, State, dict[str, Any]] | None:
    """Return what `write_snapshot` wrote: the dense network, its full-size weights, and the content.

    `base`: the weights that pruning began with. None when the file is missing or damaged, or what it was made
    from is not `made_from`: that round must be done.
    """
    read = read_weights(path, SCHEMA, made_from)
    if read is None:
        return None
    tensors, content = read
    try:
        dense, full = without_groups(groups, base, tensors.pop(_REMOVED).numpy().astype(np.bool_), origin)
        dense.network.load_state_dict({name.removeprefix(_WEIGHTS): tensor for name, tensor in tensors.items()})
        return dense, write_back(dense, full), content
    except (KeyError, TypeError, ValueError, RuntimeError, UnsupportedError, StaleError):
        return None
