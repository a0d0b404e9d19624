"""Torch-Pruning's dependency graph, told to remove masked filters, as its users would have to tell it.

It takes no masks: it removes the indices that it is given from a layer, and from all layers that are tied to it. Where
several masked layers are tied (a residual sum, a depthwise convolution), their masks must be made one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# What is removed of tied layers: whatever is masked in any of them (each mask's group as it is), or in all of them.
Joining = Literal["any", "all"]


def import_torch_pruning() -> Any:
    """Return the module; raises ImportError. An optional peer: `pip install torch-pruning --no-deps`."""
    return importlib.import_module("torch_pruning")


def prune(network: nn.Module, keep: Mapping[str, NDArray[np.bool_]], sample: torch.Tensor, joining: Joining) -> None:
    """Remove the filters of `network`, in place, that `keep` masks. Raises whatever Torch-Pruning raises."""
    graph = import_torch_pruning().DependencyGraph().build_dependency(network, sample, verbose=False)
    for module, indices in _removals(graph, network, keep, joining):
        group = graph.get_pruning_group(module, _handler(module), indices)
        if not graph.check_pruning_group(group):
            raise ValueError("a group of tied layers would lose all of its channels")
        group.prune()


def same_either_way(network: nn.Module, keep: Mapping[str, NDArray[np.bool_]], sample: torch.Tensor) -> bool:
    """Tell whether no masked layers are tied, so that both ways of joining remove the same."""
    graph = import_torch_pruning().DependencyGraph().build_dependency(network, sample, verbose=False)
    removals = [[indices for _, indices in _removals(graph, network, keep, joining)] for joining in ("any", "all")]
    return removals[0] == removals[1]


def _removals(
    graph: Any, network: nn.Module, keep: Mapping[str, NDArray[np.bool_]], joining: str
) -> tuple[tuple[nn.Module, list[int]], ...]:
    """Return for one layer of each set of tied layers the indices that go, in the numbering before anything goes."""
    removed = {network.get_submodule(name): ~mask for name, mask in keep.items()}
    found = []
    seen: set[nn.Module] = set()
    for module, mask in removed.items():
        if module in seen:
            continue
        votes = np.zeros(len(mask), dtype=np.int64)
        members = list(_tied(graph, module, len(mask)))
        for member, pairs in members:
            seen.add(member)
            mine = removed.get(member)
            if mine is not None:
                votes[sorted({root for index, root in pairs if mine[index]})] += 1
        going = votes >= (1 if joining == "any" else len(members))
        if going.any():
            found.append((module, [int(index) for index in np.flatnonzero(going)]))
    return tuple(found)


def _tied(graph: Any, module: nn.Module, width: int) -> Iterator[tuple[nn.Module, list[tuple[int, int]]]]:
    """Yield all layers whose outputs go with those of `module`, with pairs (its output, the output of `module`)."""
    for item in graph.get_pruning_group(module, _handler(module), list(range(width))):
        member = item.dep.target.module
        if isinstance(member, (nn.Conv2d, nn.Linear)) and graph.is_out_channel_pruning_fn(item.dep.handler):
            yield member, list(zip(item.idxs, item.root_idxs, strict=True))


def _handler(module: nn.Module) -> Any:
    tool = import_torch_pruning()
    return tool.prune_linear_out_channels if isinstance(module, nn.Linear) else tool.prune_conv_out_channels
