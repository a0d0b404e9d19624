"""How channels pass modules with parameters per channel: batch, instance and group norms, PReLU."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from exporter.channels.classes import Atoms
from exporter.channels.constants import batch_norm, group_norm
from exporter.channels.feature import Feature, along, constants_along, vector_along
from exporter.channels.flow_record import Flow


def batch_norm_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    assert module is not None
    atoms = _own_vector(flow, node, feature)
    if atoms is None:
        return None
    return Feature(feature.shape, feature.atoms, batch_norm(module, feature.constants, 1))


def _own_vector(flow: Flow, node: fx.Node, feature: Feature) -> Atoms | None:
    """Tie a module's parameters to dimension 1 of what it reads; None when the channels lie otherwise."""
    atoms = vector_along(feature, 1) if len(feature.shape) > 1 else None
    if atoms is None:
        return None
    before = flow.vectors.setdefault(str(node.target), atoms)
    flow.classes.unite(before, atoms)
    return atoms


def prelu_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    assert isinstance(module, nn.PReLU)
    if module.num_parameters > 1:
        if _own_vector(flow, node, feature) is None:
            return None
        slope = along(1, len(feature.shape), module.weight.detach().double().numpy())
    else:
        slope = module.weight.detach().double().numpy().reshape((1,) * len(feature.shape))
    constants = feature.constants
    return Feature(feature.shape, feature.atoms, np.where(constants < 0, constants * slope, constants))


def group_norm_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, feature: Feature, arguments: Any, options: Any
) -> Feature | None:
    """Tie the channels of each group: their statistics are common, so that all of them stay or none."""
    assert module is not None
    if getattr(module, "track_running_stats", False):
        return None
    channels = feature.shape[1]
    groups = module.num_groups if isinstance(module, nn.GroupNorm) else channels
    atoms = _own_vector(flow, node, feature)
    if atoms is None:
        return None
    assert isinstance(groups, int)
    rows = atoms.reshape(groups, -1)
    flow.classes.unite(rows[:, :1], rows)
    constants = group_norm(module, constants_along(feature, 1), groups)
    return Feature(feature.shape, feature.atoms, along(1, len(feature.shape), constants))
