"""How the kept channels of a grouped convolution are laid out in groups that are alike again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.channels.flow import LayerReads
from exporter.channels.order import Indices
from exporter.shrinking.plan import EMPTY_SLOT


@dataclass(frozen=True)
class GroupedLayout:
    """The groups of a shrunk convolution; slots only where its channels do not lie in equal groups by themselves.

    A slot holds a position among the kept inputs or outputs, or nothing.
    """

    groups: int
    input_slots: tuple[int, ...] = ()
    output_slots: tuple[int, ...] = ()


def grouped_layout(layer: LayerReads, outputs: Indices, inputs: Indices) -> GroupedLayout:
    """Return the layout of `layer` that makes `outputs` of `inputs` (indices in the full layer).

    Groups without any kept output go; the others are filled up to the largest with empty slots.
    """
    if layer.groups == 1:
        return GroupedLayout(1)
    made_by = outputs // (len(layer.outputs) // layer.groups)
    read_by = inputs // (len(layer.inputs) // layer.groups)
    groups = np.unique(made_by)
    made = [np.flatnonzero(made_by == group) for group in groups]
    read = [np.flatnonzero(read_by == group) for group in groups]
    input_slots, output_slots = _filled(read), _filled(made)
    as_they_are = input_slots == tuple(range(len(inputs))) and output_slots == tuple(range(len(outputs)))
    return GroupedLayout(len(groups)) if as_they_are else GroupedLayout(len(groups), input_slots, output_slots)


def _filled(members: list[Indices]) -> tuple[int, ...]:
    """Return the members of all groups, each group filled up to the size of the largest."""
    size = max(1, *(len(group) for group in members))
    slots = np.full((len(members), size), EMPTY_SLOT)
    for row, group in zip(slots, members, strict=True):
        row[: len(group)] = group
    return tuple(int(slot) for slot in slots.reshape(-1))
