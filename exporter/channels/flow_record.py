"""What is found out while following channels through a network; the rule for operations that nothing is known of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from exporter.channels.classes import Atoms, ChannelClasses
from exporter.channels.feature import Feature, opaque
from exporter.channels.walk import instances
from exporter.tracing.trace import TracedNetwork, makes_one_tensor, node_name, shapes_of


@dataclass
class Flow:
    """What has been found out so far while following the channels of one network."""

    traced: TracedNetwork
    classes: ChannelClasses
    vectors: dict[str, Atoms] = field(default_factory=dict)
    parameters: dict[str, Feature] = field(default_factory=dict)
    pins: list[tuple[Atoms, str]] = field(default_factory=list)
    equal_parts: list[tuple[str, Atoms]] = field(default_factory=list)
    movements: dict[fx.Node, tuple[NDArray[np.int64], ...]] = field(default_factory=dict)

    def pin(self, atoms: Atoms, reason: str) -> None:
        """Keep the channels of `atoms`, for `reason`."""
        self.pins.append((atoms.reshape(-1), reason))


# Given a node, the module that it calls, and its arguments, in which a Feature stands for every tensor.
Rule = Callable[[Flow, fx.Node, nn.Module | None, tuple[Any, ...], dict[str, Any]], Any]


def opaque_rule(
    flow: Flow, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Keep all that the operation reads; what it makes is live and stays."""
    what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
    for feature in instances(Feature, (arguments, options)):
        flow.pin(feature.atoms, f"'{node_name(node)}' ({what}) reads it, which cannot be shrunk")
    return _opaque_like(shapes_of(node))


def _opaque_like(made: Any) -> Any:
    if isinstance(made, torch.Size):
        return opaque(tuple(made))
    return tuple(_opaque_like(item) for item in made) if isinstance(made, (tuple, list)) else made


def first_feature(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Feature | None:
    """Return the one tensor that an operation reads, or None when it reads another number of them."""
    found = list(instances(Feature, (arguments, options)))
    return found[0] if len(found) == 1 else None


def one_tensor(rule: Callable[..., Any]) -> Rule:
    """Make a rule for operations that read one tensor and make one; all others are opaque."""

    def checked(
        flow: Flow, node: fx.Node, module: nn.Module | None, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        feature = first_feature(arguments, options)
        if feature is None or not makes_one_tensor(node):
            return opaque_rule(flow, node, module, arguments, options)
        result = rule(flow, node, module, feature, arguments, options)
        return opaque_rule(flow, node, module, arguments, options) if result is None else result

    return checked
