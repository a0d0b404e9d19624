"""Which layers suffer most: each converted alone, the others in float32; and how many of the worst have to stay so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calibration.precision.conversion import Conversion
from calibration.precision.evaluator import Evaluation, Evaluator


@dataclass(frozen=True)
class LayerSensitivity:
    """What it costs to convert one layer alone; numbers as in `Evaluation`, None where outputs are no longer finite.

    `unfit`: why the layer stays in float32 whatever it would cost, if it does.
    """

    role: str
    layer: str
    output_error: float | None
    loss_points: float | None
    changed_answers: int | None
    unfit: str | None = None


def sensitivity(
    evaluator: Evaluator, conversions: Sequence[Conversion], on_progress: Callable[[int], None] | None = None
) -> tuple[LayerSensitivity, ...]:
    """Return what each layer costs when it alone is converted, the worst first.

    Ordered by the error of the outputs, which tells layers apart where no answer changes; those whose outputs are not
    finite come first.
    """
    found = []
    for conversion in conversions:
        for layer in dict.fromkeys(conversion.layers.values()):
            if layer in conversion.impossible:
                continue
            evaluation = evaluator.evaluate({conversion.role: conversion.runnable(conversion.converted([layer]))})
            found.append(_entry(conversion.role, layer, evaluation, conversion.unfit.get(layer)))
            if on_progress is not None:
                on_progress(len(found))
    return tuple(sorted(found, key=_order, reverse=True))


def worst_in_float32(
    ranked: Sequence[LayerSensitivity],
    evaluate_without: Callable[[Sequence[LayerSensitivity]], Evaluation],
    points: float,
) -> tuple[LayerSensitivity, ...] | None:
    """Return the fewest of the worst layers that have to stay in float32 for the loss to be within `points`.

    `ranked`: worst first, too much when all are converted; `evaluate_without` says what is lost when all but the given
    ones are. The number is bisected: exact where more float32 never loses more, and what is returned was evaluated to
    be within the bound in any case. None when even one converted layer is too much.
    """
    least, most = 0, len(ranked)
    while most - least > 1:
        middle = (least + most) // 2
        if evaluate_without(ranked[:middle]).loses_at_most(points):
            most = middle
        else:
            least = middle
    return None if most == len(ranked) else tuple(ranked[:most])


def _entry(role: str, layer: str, evaluation: Evaluation, unfit: str | None) -> LayerSensitivity:
    if evaluation.metric is None:
        return LayerSensitivity(role, layer, None, None, None, unfit)
    loss = evaluation.metric.loss_points
    return LayerSensitivity(role, layer, evaluation.output_error, loss, evaluation.changed_answers, unfit)


def _order(item: LayerSensitivity) -> tuple[bool, float]:
    return item.output_error is None, item.output_error or 0.0
