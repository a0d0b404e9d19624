"""What stands against building a graph, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from exporter.layers.candidates import layer_name


@dataclass(frozen=True)
class Problem:
    """One thing that a builder refuses (`refused`), or may refuse or change without a word.

    `node`, `operator`, `layer`: where, and out of which layer of the network; None where it is no node's. Nodes of the
    encoding at the cut belong to the layers "FeatureEncode..." and "FeatureDecode...".
    """

    reason: str
    layer: str | None = None
    operator: str | None = None
    node: str | None = None
    refused: bool = True

    def __str__(self) -> str:
        """Return the problem in words."""
        return f"{self.where}: {self.reason}" if self.where else self.reason

    @property
    def where(self) -> str:
        """Say where it is: layer, operator, node."""
        if self.node is None:
            return ""
        name = "" if self.node in (self.layer, "") else f" '{self.node}'"
        return f"layer {self.layer} ({self.operator}{name})"


def problem_at(node: onnx.NodeProto, reason: str, *, refused: bool = True) -> Problem:
    """Return a problem of one node."""
    return Problem(reason, layer_name(node), str(node.op_type), str(node.name or node.output[0]), refused)


def describe(problems: Sequence[Problem]) -> str:
    """Return all of `problems` in words, each reason once with every place that it holds for."""
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.reason, []).append(problem.where)
    parts = [
        f"{reason}: {', '.join(filter(None, where))}" if any(where) else reason for reason, where in places.items()
    ]
    count = len(problems)
    return f"{count} problem{'' if count == 1 else 's'}: {'; '.join(parts)}"
