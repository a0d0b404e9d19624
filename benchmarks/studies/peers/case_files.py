"""A case on disk, for tools that run in a process of their own.

Imports torch and NumPy alone: NNI's own environment, which has nothing else of this project, imports it too.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class NetworkSource(NamedTuple):
    """Where a network comes from: a function of a module, and its arguments, all JSON; `shape`: of one input."""

    name: str
    module: str
    function: str
    arguments: Mapping[str, Any] = {}
    shape: tuple[int, ...] = (3, 224, 224)

    def build(self) -> nn.Module:
        """Return the network, in eval mode; the random state decides its weights."""
        network: nn.Module = getattr(importlib.import_module(self.module), self.function)(**self.arguments)
        return network.eval()


@dataclass(frozen=True)
class StoredCase:
    """What `write_case` wrote. `keep`: boolean vectors by layer; `inputs`: samples x shape, float32."""

    source: NetworkSource
    meaning: str
    keep: Mapping[str, NDArray[np.bool_]]
    inputs: torch.Tensor


def write_case(folder: Path, case: StoredCase, network: nn.Module) -> None:
    """Write a case with the weights of `network` into `folder`; raises OSError."""
    about = {"source": case.source._asdict(), "meaning": case.meaning}
    (folder / "case.json").write_text(json.dumps(about), encoding="utf-8")
    torch.save(network.state_dict(), folder / "state.pt")
    np.savez(folder / "masks.npz", **dict(case.keep))  # type: ignore[arg-type]  # the stub takes them for options
    np.save(folder / "inputs.npy", case.inputs.numpy())


def read_case(folder: Path) -> StoredCase:
    """Return the case in `folder`, but for its network; raises OSError."""
    about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    source = NetworkSource(**{**about["source"], "shape": tuple(about["source"]["shape"])})
    with np.load(folder / "masks.npz") as file:
        keep = dict(file)
    return StoredCase(source, about["meaning"], keep, torch.from_numpy(np.load(folder / "inputs.npy")))


def load_network(folder: Path, source: NetworkSource) -> nn.Module:
    """Return the network in `folder`, with memory taken for its weights once; raises OSError."""
    with torch.device("meta"):
        network = source.build()
    state = torch.load(folder / "state.pt", weights_only=True)
    try:
        network.load_state_dict(state, assign=True)
    except TypeError:  # torch 2.0
        network.to_empty(device="cpu").load_state_dict(state)
    return network
