"""One network to convert: what is asked for, how each part can be converted, and what has to stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import onnx

from calibration.precision.conversion import Conversion, half_conversion, int8_conversion
from calibration.precision.evaluator import Evaluation, Evaluator, open_self_evaluator
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.network_under_test import NetworkUnderTest, inputs_of, open_network
from calibration.precision.sensitivity import LayerSensitivity, sensitivity, worst_in_float32
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
    """How to convert.

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
class ConversionJob:
    """One network to convert: its parts, calibration data to choose by, and how each part is converted."""

    context: SplitContext
    network: NetworkUnderTest
    options: PrecisionOptions
    evaluator: Evaluator
    conversions: tuple[Conversion, ...]
    float32_by_name: frozenset[str]

    def float32_layers(self, worst: Sequence[LayerSensitivity] = ()) -> dict[str, dict[str, str]]:
        """Return by role the layers that stay in float32, and why."""
        found = {}
        for conversion in self.conversions:
            named = {layer: "chosen by name" for layer in conversion.layers.values() if layer in self.float32_by_name}
            sensitive = {
                item.layer: f"among the most sensitive: alone in {self.options.precision}, {describe(item)}"
                for item in worst
                if item.role == conversion.role
            }
            found[conversion.role] = {**sensitive, **named, **conversion.unfit}
        return found

    def graphs(self, float32_layers: dict[str, dict[str, str]]) -> dict[str, onnx.ModelProto]:
        """Return the converted graphs by role, as they are written."""
        return {
            conversion.role: conversion.converted(
                [layer for layer in conversion.fit if layer not in float32_layers[conversion.role]]
            )
            for conversion in self.conversions
        }

    def runnable(self, graphs: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
        """Return what ONNX Runtime runs to tell what `graphs` compute."""
        return {conversion.role: conversion.runnable(graphs[conversion.role]) for conversion in self.conversions}


def open_conversion_job(context: SplitContext, layer: str, options: PrecisionOptions) -> ConversionJob:
    """Open the bundle of `layer` ("whole": the network that is not cut) and measure its activations.

    Raises CoopexportError when there is no such bundle, it is stale, or a layer to keep does not exist.
    """
    graph = context.graph
    float32_layers = frozenset(display_name(graph.layers, find_layer(graph.layers, name)) for name in options.keep)
    network = open_network(graph.folder, layer, context.made_from, graph.layers)
    evaluator = open_self_evaluator(
        network, context.data.calibration_inputs, context.data.calibration.labels, context.data.metric
    )
    conversions = []
    for subgraph in network.subgraphs:
        inputs = inputs_of(network, subgraph.role, context.data.calibration_inputs, evaluator.reference)
        if options.precision == "fp16":
            conversions.append(half_conversion(subgraph, inputs))
        else:
            conversions.append(int8_conversion(subgraph, inputs, options.ranges, options.kept_in == "fp16"))
    return ConversionJob(context, network, options, evaluator, tuple(conversions), float32_layers)


def describe(item: LayerSensitivity) -> str:
    """Say in a few words what it costs to convert one layer alone."""
    if item.output_error is None:
        return "the outputs are no longer finite"
    changed = "" if item.changed_answers is None else f", {item.changed_answers} answers change"
    return f"the outputs are off by {100 * item.output_error:.2g} % of their deviation{changed}"


def choose_float32_layers(
    job: ConversionJob, on_progress: Callable[[int], None] | None = None
) -> tuple[LayerSensitivity, ...]:
    """Return the most sensitive layers, as few as are enough for the others to be within the bound on calibration data.

    Raises CoopexportError naming the worst layer when no layer at all can be converted within it.
    """
    bound = job.options.bound_points

    def evaluate_without(float32_layers: Sequence[LayerSensitivity]) -> Evaluation:
        return job.evaluator.evaluate(job.runnable(job.graphs(job.float32_layers(float32_layers))))

    if not job.options.mixed or evaluate_without(()).loses_at_most(bound):
        return ()
    float32_layers = job.float32_layers()
    ranked = [
        item
        for item in sensitivity(job.evaluator.first(_RANKING_IMAGES), job.conversions, on_progress)
        if item.layer not in float32_layers[item.role]
    ]
    found = worst_in_float32(ranked, evaluate_without, bound)
    if found is None:
        where = f"{job.network.layer} of {job.context.graph.variant}"
        worst = f"; the worst, {ranked[0].layer}: {describe(ranked[0])}" if ranked else ""
        raise PrecisionRefusedError(
            f"{where}: no layer can run in {job.options.precision} within {bound:g} points on calibration data{worst}"
            "; raise --maximum-loss, or stay with float32; nothing was written",
            layer=job.network.layer,
        )
    return found
