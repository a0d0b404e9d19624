"""One network to lower: what is asked for, how each part can be lowered, and what has to stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import onnx

from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.judge import Judge, Verdict, open_agreement
from calibration.precision.lowering import Lowering, half_lowering, int8_lowering
from calibration.precision.sensitivity import LayerSensitivity, kept_worst, sensitivity
from calibration.precision.subject import Subject, inputs_of, open_subject
from calibration.splitting.context import SplitContext
from exporter.bundles.precision_file import Precision
from exporter.layers.names import display_name, find_layer
from jetson.errors import ParityError


class PrecisionRefusedError(ParityError):
    """A precision costs one network more of the metric than allowed; others may do with it."""


# Layers are ranked by an error that has a value for every image: it takes fewer of them than a metric.
_RANKING_IMAGES = 64
DEFAULT_LOSS_POINTS: dict[Precision, float] = {"fp16": 0.1, "int8": 1.0}


@dataclass(frozen=True)
class PrecisionOptions:
    """How to lower.

    `maximum_loss_points`: of the metric, against float32 on the same images; 0.1 (fp16) or 1 (int8) without it.
    `ranges`: of int8. `keep`: layers that stay in float32 in any case, as the user calls them. `mixed`: let the most
    sensitive layers stay in float32 as well, until the loss on calibration data is within the bound. `kept_in`: beside
    int8, layers that stay out of it may run in float16 instead, where half's range allows it.
    """

    precision: Precision
    maximum_loss_points: float | None = None
    ranges: RangeSettings = field(default_factory=RangeSettings)
    keep: tuple[str, ...] = ()
    mixed: bool = True
    kept_in: Literal["fp32", "fp16"] = "fp32"

    @property
    def bound_points(self) -> float:
        """Return the loss that is allowed."""
        given = self.maximum_loss_points
        return DEFAULT_LOSS_POINTS[self.precision] if given is None else given


@dataclass(frozen=True)
class Work:
    """One network to lower: its parts, calibration data to choose by, and how each part is lowered."""

    context: SplitContext
    subject: Subject
    options: PrecisionOptions
    judge: Judge
    lowerings: tuple[Lowering, ...]
    kept_by_name: frozenset[str]

    def kept(self, worst: Sequence[LayerSensitivity] = ()) -> dict[str, dict[str, str]]:
        """Return by role the layers that stay in float32, and why."""
        found = {}
        for lowering in self.lowerings:
            named = {layer: "kept by name" for layer in lowering.layers.values() if layer in self.kept_by_name}
            sensitive = {
                item.layer: f"among the most sensitive: alone in {self.options.precision}, {describe(item)}"
                for item in worst
                if item.role == lowering.role
            }
            found[lowering.role] = {**sensitive, **named, **lowering.unfit}
        return found

    def graphs(self, kept: dict[str, dict[str, str]]) -> dict[str, onnx.ModelProto]:
        """Return the lowered graphs by role, as they are written."""
        return {
            lowering.role: lowering.lowered([layer for layer in lowering.fit if layer not in kept[lowering.role]])
            for lowering in self.lowerings
        }

    def judged(self, graphs: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
        """Return what ONNX Runtime runs to tell what `graphs` compute."""
        return {lowering.role: lowering.judged(graphs[lowering.role]) for lowering in self.lowerings}


def open_work(context: SplitContext, layer: str, options: PrecisionOptions) -> Work:
    """Open the bundle of `layer` ("whole": the network that is not cut) and measure its activations.

    Raises CoopexportError when there is no such bundle, it is stale, or a layer to keep does not exist.
    """
    graph = context.graph
    kept = frozenset(display_name(graph.layers, find_layer(graph.layers, name)) for name in options.keep)
    subject = open_subject(graph.folder, layer, graph.model_sha256, graph.layers)
    judge = open_agreement(subject, context.calibration_inputs, context.calibration.labels, context.metric)
    lowerings = []
    for part in subject.parts:
        inputs = inputs_of(subject, part.role, context.calibration_inputs, judge.reference)
        if options.precision == "fp16":
            lowerings.append(half_lowering(part, inputs))
        else:
            lowerings.append(int8_lowering(part, inputs, options.ranges, options.kept_in == "fp16"))
    return Work(context, subject, options, judge, tuple(lowerings), kept)


def describe(item: LayerSensitivity) -> str:
    """Say in a few words what it costs to lower one layer alone."""
    if item.output_error is None:
        return "the outputs are no longer finite"
    changed = "" if item.changed_answers is None else f", {item.changed_answers} answers change"
    return f"the outputs are off by {100 * item.output_error:.2g} % of their deviation{changed}"


def choose_kept(work: Work, on_progress: Callable[[int], None] | None = None) -> tuple[LayerSensitivity, ...]:
    """Return the most sensitive layers, as few as are enough for the others to be within the bound on calibration data.

    Raises CoopexportError naming the worst layer when no layer at all can be lowered within it.
    """
    bound = work.options.bound_points

    def judge_without(kept: Sequence[LayerSensitivity]) -> Verdict:
        return work.judge.judge(work.judged(work.graphs(work.kept(kept))))

    if not work.options.mixed or judge_without(()).loses_at_most(bound):
        return ()
    kept = work.kept()
    ranked = [
        item
        for item in sensitivity(work.judge.first(_RANKING_IMAGES), work.lowerings, on_progress)
        if item.layer not in kept[item.role]
    ]
    found = kept_worst(ranked, judge_without, bound)
    if found is None:
        where = f"{work.subject.layer} of {work.context.graph.variant}"
        worst = f"; the worst, {ranked[0].layer}: {describe(ranked[0])}" if ranked else ""
        raise PrecisionRefusedError(
            f"{where}: no layer can run in {work.options.precision} within {bound:g} points on calibration data{worst}"
            "; raise --maximum-loss, or stay with float32; nothing was written",
            layer=work.subject.layer,
        )
    return found
