"""Shrink plans that are wrong in one index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from exporter.shrinking.plan import ShrinkPlan


def mutated_plans(plan: ShrinkPlan, count: int, seed: int) -> Iterator[ShrinkPlan]:
    """Yield copies of `plan` in which one kept index of a random layer is a removed neighbour's instead."""
    random = np.random.default_rng(seed)
    places = [
        (name, side, position, other)
        for name, layer in plan.layers.items()
        for side in (("kept_outputs", "kept_inputs") if layer.kind in ("convolution", "linear") else ("kept_outputs",))
        for position, index in enumerate(getattr(layer, side))
        for other in (index - 1, index + 1)
        if other >= 0 and other not in getattr(layer, side) and other <= max(getattr(layer, side))
    ]
    for choice in random.permutation(len(places))[:count]:
        name, side, position, other = places[choice]
        layer = plan.layers[name]
        indices = list(getattr(layer, side))
        indices[position] = other
        changed = layer.model_copy(update={side: tuple(indices)})
        yield plan.model_copy(update={"layers": {**plan.layers, name: changed}})
