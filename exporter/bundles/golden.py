"""Golden data of a bundle: by which names inputs, symbols and outputs lie in its npz file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]


def golden_of_split(
    head_outputs: Sequence[NDArray[Any]],
    tail_inputs: Sequence[NDArray[Any]],
    exits: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a cut by name.

    `head_outputs`: what leaves the head; `tail_inputs`: what the tail takes of it, kept where it is something else;
    `exits`: outputs of the network that the head makes; `outputs`: of the tail.
    """
    arrays = {f"symbols_{index}": array for index, array in enumerate(head_outputs)}
    for index, (one, other) in enumerate(zip(head_outputs, tail_inputs, strict=True)):
        if one.dtype != other.dtype or not np.array_equal(one, other):
            arrays[f"taken_{index}"] = other
    return arrays | _numbered("exits", exits) | golden_of_whole(outputs)


def golden_of_whole(outputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the outputs of a graph by name: `outputs`, and `outputs_1` and so on where there are more."""
    return _numbered("outputs", outputs)


def golden_head_outputs(golden: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return what leaves the head for the golden inputs, tensor by tensor."""
    return _collected(golden, "symbols", numbered_from_0=True)


def golden_tail_inputs(golden: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return what the tail takes for the golden inputs, tensor by tensor."""
    head_outputs = golden_head_outputs(golden)
    return [golden.get(f"taken_{index}", array) for index, array in enumerate(head_outputs)]


def golden_exits(golden: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the outputs of the network that the head makes."""
    return _collected(golden, "exits")


def golden_outputs(golden: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the outputs of the tail, or of the whole network."""
    return _collected(golden, "outputs")


def _numbered(name: str, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name if index == 0 else f"{name}_{index}": array for index, array in enumerate(arrays)}


def _collected(golden: Mapping[str, NDArray[Any]], name: str, *, numbered_from_0: bool = False) -> Arrays:
    found: Arrays = []
    while (key := name if not found and not numbered_from_0 else f"{name}_{len(found)}") in golden:
        found.append(golden[key])
    return found
