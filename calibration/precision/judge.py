"""What a lowered network loses, image by image against float32: metric, changed answers, error of the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.metrics import metric
from calibration.metrics.metric import MetricFunction, Score
from calibration.precision.subject import Graphs, PairRun, Subject, run_parts
from exporter.bundles.bundle import Metric


@dataclass(frozen=True)
class Verdict:
    """What lowering costs. All but `run` are None where an output is not finite, one that the head makes included.

    `score`: of the lowered network; `metric`: the same beside float32's. `changed_answers`: how many images get another
    class, None as well where outputs are no classes. `output_error`: root mean square of an output's difference over
    that of float32's own deviation from its mean over the images; of several outputs the largest.
    """

    run: PairRun
    score: Score | None
    metric: Metric | None
    changed_answers: int | None
    output_error: float | None

    @property
    def is_finite(self) -> bool:
        """Tell whether the outputs are numbers at all."""
        return self.metric is not None

    def loses_at_most(self, points: float) -> bool:
        """Tell whether the metric falls by at most `points`: a network without finite outputs has lost."""
        # Far below one image in a million: the difference of two means is not exact.
        return self.metric is not None and self.metric.loss_points <= points + 1e-6


@dataclass(frozen=True)
class Judge:
    """Data to judge with, and what the float32 graphs make of them."""

    subject: Subject
    inputs: NDArray[np.float32]
    labels: NDArray[Any]
    metric: tuple[str, MetricFunction]
    reference: PairRun
    score: Score

    def first(self, count: int) -> Judge:
        """Return a judge with the first `count` images alone, which is enough to tell layers apart."""
        known, per_image = self.reference, self.score.per_image
        if count >= len(self.labels) or per_image is None:
            return self
        arrays = ([one[:count] for one in part] for part in (known.sent, known.exits, known.taken, known.outputs))
        values = per_image[:count]
        score = replace(self.score, value=float(values.mean()), samples=count, per_image=values)
        return replace(
            self, inputs=self.inputs[:count], labels=self.labels[:count], reference=PairRun(*arrays), score=score
        )

    def judge(self, changed: Graphs) -> Verdict:
        """Return what `changed` (runnable graphs by role; the others stay float32) lose."""
        graphs: Mapping[str, Any] = {**self.subject.graphs, **changed}
        same_head = "head" not in changed
        found = run_parts(self.subject, graphs, self.inputs, self.reference if same_head else None)
        reference, outputs = self.reference.outputs[0], found.outputs[0]
        if not all(np.isfinite(array).all() for array in (*found.exits, *found.outputs)):
            return Verdict(found, None, None, None, None)
        score = metric.score(self.metric, outputs, self.labels)
        measured = metric.compare(self.score, score)
        changed_answers = None
        if reference.ndim == 2 and self.metric[0] == metric.TOP1:
            changed_answers = int((reference.argmax(axis=1) != outputs.argmax(axis=1)).sum())
        pairs = zip(
            (*self.reference.exits, *self.reference.outputs), (*found.exits, *found.outputs), strict=True
        )  # the metric is of the first alone
        error = max(output_error(one, other) for one, other in pairs)
        return Verdict(found, score, measured, changed_answers, error)


def open_judge(
    subject: Subject, inputs: NDArray[np.float32], labels: NDArray[Any], chosen: tuple[str, MetricFunction]
) -> Judge:
    """Run the float32 graphs of `subject` on `inputs` (N x ..., preprocessed); raises CoopexportError."""
    reference = run_parts(subject, subject.graphs, inputs)
    return _judge(subject, inputs, labels, chosen, reference)


def open_agreement(
    subject: Subject, inputs: NDArray[np.float32], labels: NDArray[Any], chosen: tuple[str, MetricFunction]
) -> Judge:
    """Return a judge for whom float32's own answers are right, so that every answer that changes counts as lost.

    Calibration data often have no labels, or none that the network was right about. `labels` count where outputs are
    no classes. Raises CoopexportError.
    """
    reference = run_parts(subject, subject.graphs, inputs)
    answers = reference.outputs[0]
    if chosen[0] == metric.TOP1 and answers.ndim == 2:
        labels = answers.argmax(axis=1)
    return _judge(subject, inputs, labels, chosen, reference)


def _judge(
    subject: Subject,
    inputs: NDArray[np.float32],
    labels: NDArray[Any],
    chosen: tuple[str, MetricFunction],
    reference: PairRun,
) -> Judge:
    return Judge(subject, inputs, labels, chosen, reference, metric.score(chosen, reference.outputs[0], labels))


def output_error(reference: NDArray[Any], outputs: NDArray[Any]) -> float:
    """Return the root mean square of a difference over that of the reference's deviation from its mean over samples.

    0 for equal outputs; without any deviation the difference itself.
    """
    expected = reference.astype(np.float64)
    difference = float(np.sqrt(np.mean((outputs.astype(np.float64) - expected) ** 2)))
    deviation = float(np.sqrt(np.mean((expected - expected.mean(axis=0)) ** 2)))
    return difference / deviation if deviation > 0 else difference
