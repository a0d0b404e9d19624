"""Which layers suffer most: each lowered alone, the others in float32; and how many of the worst have to stay so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calibration.precision.judge import Judge, Verdict
from calibration.precision.lowering import Lowering


@dataclass(frozen=True)
class LayerSensitivity:
    """What it costs to lower one layer alone; numbers as in `Verdict`, None where outputs are no longer finite.

    `unfit`: why the layer stays in float32 whatever it would cost, if it does.
    """

    role: str
    layer: str
    output_error: float | None
    loss_points: float | None
    changed_answers: int | None
    unfit: str | None = None


def sensitivity(
    judge: Judge, lowerings: Sequence[Lowering], on_progress: Callable[[int], None] | None = None
) -> tuple[LayerSensitivity, ...]:
    """Return what each layer costs when it alone is lowered, the worst first.

    Ordered by the error of the outputs, which tells layers apart where no answer changes; those whose outputs are not
    finite come first.
    """
    found = []
    for lowering in lowerings:
        for layer in dict.fromkeys(lowering.layers.values()):
            if layer in lowering.impossible:
                continue
            verdict = judge.judge({lowering.role: lowering.judged(lowering.lowered([layer]))})
            found.append(_entry(lowering.role, layer, verdict, lowering.unfit.get(layer)))
            if on_progress is not None:
                on_progress(len(found))
    return tuple(sorted(found, key=_order, reverse=True))


def kept_worst(
    ranked: Sequence[LayerSensitivity], judge_without: Callable[[Sequence[LayerSensitivity]], Verdict], points: float
) -> tuple[LayerSensitivity, ...] | None:
    """Return the fewest of the worst layers that have to stay in float32 for the loss to be within `points`.

    `ranked`: worst first, too much when all are lowered; `judge_without` says what is lost when all but the given ones
    are. The number is bisected: exact where more float32 never loses more, and what is returned was judged to be within
    the bound in any case. None when even one lowered layer is too much.
    """
    least, most = 0, len(ranked)
    while most - least > 1:
        middle = (least + most) // 2
        if judge_without(ranked[:middle]).loses_at_most(points):
            most = middle
        else:
            least = middle
    return None if most == len(ranked) else tuple(ranked[:most])


def _entry(role: str, layer: str, verdict: Verdict, unfit: str | None) -> LayerSensitivity:
    if verdict.metric is None:
        return LayerSensitivity(role, layer, None, None, None, unfit)
    loss = verdict.metric.loss_points
    return LayerSensitivity(role, layer, verdict.output_error, loss, verdict.changed_answers, unfit)


def _order(item: LayerSensitivity) -> tuple[bool, float]:
    return item.output_error is None, item.output_error or 0.0
