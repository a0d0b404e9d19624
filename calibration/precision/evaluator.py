"""What a converted network loses against float32: metric, changed answers and error of the outputs, image by image.

And from that, how far an engine may be from the golden data of its precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.metrics import metric
from calibration.metrics.metric import MetricFunction, Score
from calibration.precision.network_under_test import Graphs, NetworkUnderTest, PairRun, run_subgraphs
from exporter import parity
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import CutTensorRecord, Metric
from exporter.bundles.precision_file import Rounding
from exporter.onnx_graphs.session import open_session, run
from jetson.wire.feature import symbols_of

# Docs: what a float32 engine may differ by.
SYMBOL_FRACTION_BOUND = 1e-3
# An engine rounds in other places than ONNX Runtime; as much again as the precision itself costs is no other network.
_FACTOR = 2.0


@dataclass(frozen=True)
class Evaluation:
    """What converting costs. All but `run` are None where an output is not finite, one that the head makes included.

    `score`: of the converted network; `metric`: the same beside float32's. `changed_answers`: how many images get
    another class, None where outputs are not classes. `output_error`: root mean square of an output's difference
    over that of float32's own deviation from its mean over the images; of several outputs the largest.
    """

    run: PairRun
    score: Score | None
    metric: Metric | None
    changed_answers: int | None
    output_error: float | None

    def loses_at_most(self, points: float) -> bool:
        """Tell whether the metric falls by at most `points`: a network without finite outputs has lost."""
        return self.metric is not None and keeps_bound(self.metric.loss_points, points)


@dataclass(frozen=True)
class Evaluator:
    """Data to evaluate with, and what the float32 graphs make of them."""

    network: NetworkUnderTest
    inputs: NDArray[np.float32]
    labels: NDArray[Any]
    metric: tuple[str, MetricFunction]
    reference: PairRun
    score: Score

    def first(self, count: int) -> Evaluator:
        """Return an evaluator with the first `count` images alone, which is enough to tell layers apart."""
        known, per_image = self.reference, self.score.per_image
        if count >= len(self.labels) or per_image is None:
            return self
        arrays = (
            [one[:count] for one in part]
            for part in (known.head_outputs, known.exits, known.tail_inputs, known.outputs)
        )
        values = per_image[:count]
        score = replace(self.score, value=float(values.mean()), samples=count, per_image=values)
        return replace(
            self, inputs=self.inputs[:count], labels=self.labels[:count], reference=PairRun(*arrays), score=score
        )

    def evaluate(self, changed: Graphs) -> Evaluation:
        """Return what `changed` (runnable graphs by role; the others stay float32) lose."""
        graphs: Mapping[str, Any] = {**self.network.graphs, **changed}
        same_head = "head" not in changed
        found = run_subgraphs(self.network, graphs, self.inputs, self.reference if same_head else None)
        reference, outputs = self.reference.outputs[0], found.outputs[0]
        if not all(np.isfinite(array).all() for array in (*found.exits, *found.outputs)):
            return Evaluation(found, None, None, None, None)
        score = metric.score(self.metric, outputs, self.labels)
        measured = metric.compare(self.score, score)
        changed_answers = None
        if reference.ndim == 2 and self.metric[0] == metric.TOP1:
            changed_answers = int((reference.argmax(axis=1) != outputs.argmax(axis=1)).sum())
        pairs = zip(
            (*self.reference.exits, *self.reference.outputs), (*found.exits, *found.outputs), strict=True
        )  # the metric is of the first alone
        error = max(output_error(one, other) for one, other in pairs)
        return Evaluation(found, score, measured, changed_answers, error)


def open_evaluator(
    network: NetworkUnderTest, inputs: NDArray[np.float32], labels: NDArray[Any], chosen: tuple[str, MetricFunction]
) -> Evaluator:
    """Run the float32 graphs of `network` on `inputs` (N x ..., preprocessed); raises CoopexportError."""
    reference = run_subgraphs(network, network.graphs, inputs)
    return _evaluator(network, inputs, labels, chosen, reference)


def open_self_evaluator(
    network: NetworkUnderTest, inputs: NDArray[np.float32], labels: NDArray[Any], chosen: tuple[str, MetricFunction]
) -> Evaluator:
    """Return an evaluator for whom float32's own answers are right, so that every answer that changes counts as lost.

    Calibration data often have no labels, or none that the network was right about. `labels` count where outputs are
    no classes. Raises CoopexportError.
    """
    reference = run_subgraphs(network, network.graphs, inputs)
    answers = reference.outputs[0]
    if chosen[0] == metric.TOP1 and answers.ndim == 2:
        labels = answers.argmax(axis=1)
    return _evaluator(network, inputs, labels, chosen, reference)


def _evaluator(
    network: NetworkUnderTest,
    inputs: NDArray[np.float32],
    labels: NDArray[Any],
    chosen: tuple[str, MetricFunction],
    reference: PairRun,
) -> Evaluator:
    return Evaluator(network, inputs, labels, chosen, reference, metric.score(chosen, reference.outputs[0], labels))


def output_error(reference: NDArray[Any], outputs: NDArray[Any]) -> float:
    """Return the root mean square of a difference over that of the reference's deviation from its mean over samples.

    0 for equal outputs; without any deviation the difference itself.
    """
    expected = reference.astype(np.float64)
    difference = float(np.sqrt(np.mean((outputs.astype(np.float64) - expected) ** 2)))
    deviation = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    return difference / deviation if deviation > 0 else difference


def bounds_of(
    network: NetworkUnderTest, role: str, converted: onnx.ModelProto, inputs: Sequence[NDArray[Any]]
) -> Rounding:
    """Return the bounds of an engine of one part: twice the distance of `converted` (runnable) from float32, and at
    least those of a float32 engine; at most 1, which an order to a device takes as well.

    `inputs`: what the golden data give the part.
    """
    expected = run(open_session(network.graphs[role], "disabled"), inputs)
    found = run(open_session(converted, "disabled"), inputs)
    measured = _between(network.tensors if role == "head" else (), expected, found, f"{network.layer} {role}")
    return Rounding(
        output_error=max(parity.BUILD_BOUND, min(1.0, _FACTOR * measured.output_error)),
        symbol_fraction=max(SYMBOL_FRACTION_BOUND, min(1.0, _FACTOR * measured.symbol_fraction)),
        symbol_difference=1 if measured.symbol_difference <= 1 else round(_FACTOR * measured.symbol_difference),
    )


def rounding_between(network: NetworkUnderTest, reference: PairRun, found: PairRun) -> Rounding:
    """Return how far two runs of all parts are apart: symbols, exits and outputs together."""
    expected = [*reference.head_outputs, *reference.exits, *reference.outputs]
    return _between(network.tensors, expected, [*found.head_outputs, *found.exits, *found.outputs], network.layer)


def _between(
    tensors: Sequence[CutTensorRecord], expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], where: str
) -> Rounding:
    """Compare arrays, of which the first belong to `tensors`: symbols are counted, numbers compared by their spread."""
    error, fraction, largest = 0.0, 0.0, 0
    for place, (one, other) in enumerate(zip(expected, found, strict=True)):
        item = tensors[place] if place < len(tensors) else None
        if item is not None and item.encoding.kind == "affine":
            first, second = (symbols_of(item.feature, array).astype(np.int16) for array in (one, other))
            difference = np.abs(first - second)
            fraction = max(fraction, float((difference > 0).mean()))
            largest = max(largest, int(difference.max(initial=0)))
        elif one.dtype.kind == "f":
            error = max(error, parity.relative_error(one, other, where))
    return Rounding(output_error=error, symbol_fraction=fraction, symbol_difference=largest)
