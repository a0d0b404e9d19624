"""What splitting a variant needs, loaded once and when needed: graph, data, reference scores; and what crosses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.metrics import metric
from calibration.metrics.metric import Score
from calibration.ranges.calibration_file import clip_ranges
from calibration.splitting.sent_images import SentImages, resized_images
from exporter.bottleneck.design import bounded_encoding
from exporter.bottleneck.plan import BottleneckFile
from exporter.bundles.bundle import Metric, golden_bytes
from exporter.cutting.split import CutTensor, cut_tensor_of, whole_outputs
from exporter.data.datasets import Dataset, load_dataset, network_inputs
from exporter.encoding.specification import FLOAT16, FLOAT32, EncodeSpecification, affine_specification
from exporter.layers.candidates import Layer
from exporter.layers.cut_points import cut_tensors_after, describe_cut_tensors
from exporter.onnx_graphs.index import GraphIndex, index_graph
from exporter.onnx_graphs.session import Optimisation, open_session, run
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from exporter.progress import OnProgress
from exporter.project.freshness import Inputs
from exporter.project.settings import Project, SplitSection
from exporter.variants.bottleneck_graph import rounded_graph, split_settings
from exporter.variants.layer_graphs import LayerGraph
from exporter.variants.plans import bottleneck_of
from exporter.variants.staleness import bundle_inputs, measured_inputs
from jetson.errors import CoopexportError, UnsupportedError, reworded

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GOLDEN_SAMPLES = 16
# The parity checks of a cut run on this many calibration images.
PARITY_SAMPLES = 64


@dataclass(frozen=True)
class SplitData:
    """What all variants are calibrated and measured with, loaded when it is first asked for.

    `made_from`: digests of all of it. What is loaded raises CoopexportError when it is missing or malformed.
    """

    project: Project
    made_from: Inputs

    @cached_property
    def calibration(self) -> Dataset:
        """Return the images to calibrate with, data.calibration_samples of them, and their labels."""
        return load_dataset(self.project, "calibration").first(self.project.settings.data.calibration_samples)

    @cached_property
    def calibration_inputs(self) -> NDArray[np.float32]:
        """Return what the network takes of them, N x input_shape."""
        return network_inputs(self.project, self.calibration)

    @cached_property
    def evaluation(self) -> Dataset:
        """Return the images to measure with, and their labels."""
        return load_dataset(self.project, "evaluation")

    @cached_property
    def evaluation_inputs(self) -> NDArray[np.float32]:
        """Return what the network takes of them, N x input_shape."""
        return network_inputs(self.project, self.evaluation)

    @cached_property
    def sent(self) -> SentImages:
        """Return the images as they are, as a device sends them."""
        return SentImages(self.project, self.calibration, self.evaluation)

    @cached_property
    def sent_resized(self) -> SentImages | None:
        """Return the images as a device sends them that resizes them first; None where they get no smaller."""
        return resized_images(self.sent)

    @cached_property
    def metric(self) -> tuple[str, metric.MetricFunction]:
        """Return name and function of the metric."""
        return metric.load_metric(self.project)


@dataclass(frozen=True)
class OpenVariant:
    """The whole graph of a variant, opened and scored when that is first asked for; all its cuts share it."""

    graph: LayerGraph
    data: SplitData

    @cached_property
    def index(self) -> GraphIndex:
        """Return the graph; its large weights lie in the variant's folder."""
        return index_graph(self.graph.load())

    @cached_property
    def types(self) -> Mapping[str, TensorType]:
        """Return the type of every tensor."""
        return tensor_types(self.index.model)

    @cached_property
    def whole(self) -> Score:
        """Return the score of the whole graph, as exported, on the evaluation data."""
        session = open_session(self.index.model, "all", weights_folder=self.graph.folder)
        outputs = run(session, [self.data.evaluation_inputs])[0]
        return metric.score(self.data.metric, outputs, self.data.evaluation.labels)

    @cached_property
    def reference(self) -> Score:
        """Return the score that a cut is compared with: the whole graph's, with the symbols of a bottleneck rounded."""
        bottleneck = bottleneck_of(self.data.project, self.graph.variant)
        if bottleneck is None:
            return self.whole
        session = open_session(rounded_graph(self.graph, bottleneck.bits), "all", weights_folder=self.graph.folder)
        outputs = run(session, [self.data.evaluation_inputs])[0]
        return metric.score(self.data.metric, outputs, self.data.evaluation.labels)

    @cached_property
    def whole_outputs(self) -> Mapping[str, NDArray[Any]]:
        """Return what the whole graph makes of the inputs of the parity checks."""
        return whole_outputs(self.index.model, self.data.calibration_inputs[:PARITY_SAMPLES], self.graph.folder)


@dataclass(frozen=True)
class SplitContext:
    """All that splitting a variant needs. `made_from`: digests of what its bundles are made from, settings aside."""

    project: Project
    settings: SplitSection
    variant: OpenVariant
    made_from: Inputs

    @property
    def bottleneck(self) -> BottleneckFile | None:
        """Return the variant's bottleneck, if it has one."""
        return bottleneck_of(self.project, self.graph.variant)

    @property
    def graph(self) -> LayerGraph:
        """Return the exported variant."""
        return self.variant.graph

    @property
    def data(self) -> SplitData:
        """Return what it is calibrated and measured with."""
        return self.variant.data

    @property
    def model(self) -> onnx.ModelProto:
        """Return the whole graph; its large weights lie in the variant's folder."""
        return self.variant.index.model

    def open(self, model: onnx.ModelProto, optimisation: Optimisation = "all") -> InferenceSession:
        """Open the whole graph or a part of it, whose weights lie in the variant's folder."""
        return open_session(model, optimisation, weights_folder=self.graph.folder)

    def compare(self, score: Score, reference: Score | None = None) -> Metric:
        """Return the record of `score` beside the whole graph's, or `reference`, with the data that both are of."""
        return self.named(metric.compare(self.variant.whole if reference is None else reference, score))

    def named(self, measured: Metric) -> Metric:
        """Return a record of the evaluation data with their name and digest."""
        data = self.project.settings.data.evaluation
        return measured.model_copy(update={"data": data, "data_sha256": self.made_from["evaluation data"]})


def open_data(project: Project) -> SplitData:
    """Return a project's data and metric, not loaded yet."""
    return SplitData(project, measured_inputs(project))


def open_context(
    project: Project, settings: SplitSection, graph: LayerGraph, data: SplitData | None = None
) -> SplitContext:
    """Return what splitting a variant needs, nothing of it loaded yet.

    `data`: what `open_data` returns, where several variants share it.
    """
    data = open_data(project) if data is None else data
    settings = split_settings(project, graph.variant, settings)
    return SplitContext(project, settings, OpenVariant(graph, data), bundle_inputs(project, graph, data.made_from))


def calibrated_cut_tensors(
    context: SplitContext, layers: Sequence[Layer], on_progress: Callable[[int], None] | None = None
) -> dict[str, tuple[CutTensor, ...]]:
    """Return what crosses when the network is cut after each of `layers`, and how it is encoded, by layer name."""
    settings = context.settings
    cut_tensors = {layer.name: tensors_that_cross(context, layer) for layer in layers}
    every = list(dict.fromkeys(tensor for tensors in cut_tensors.values() for tensor in tensors))
    encodings: dict[str, EncodeSpecification]
    if context.bottleneck is not None:  # its activation is the range
        bounded = bounded_encoding(settings.bits, settings.packing)
        encodings = dict.fromkeys(every, bounded)
    elif settings.encoding == "affine":
        ranges = clip_ranges(
            context.graph,
            every,
            calibrated_from(context),
            lambda: context.data.calibration_inputs,
            settings,
            on_progress,
        )
        encodings = {
            tensor: affine_specification(clip, settings.bits, settings.packing) for tensor, clip in ranges.items()
        }
    else:
        encodings = dict.fromkeys(every, FLOAT16 if settings.encoding == "float16" else FLOAT32)
    return {
        name: tuple(CutTensor(tensor, context.variant.types[tensor].shape, encodings[tensor]) for tensor in tensors)
        for name, tensors in cut_tensors.items()
    }


def image_counter(context: SplitContext, on_progress: OnProgress, task: str) -> Callable[[int], None]:
    """Return what passes on how many calibration images are done; they are loaded by then, and not before."""
    return lambda done: on_progress(task, done, len(context.data.calibration_inputs))


def calibrated_from(context: SplitContext) -> Inputs:
    """Return what the calibration of a variant's features is made from, settings aside: all but how it is evaluated."""
    return {name: value for name, value in context.made_from.items() if name not in ("evaluation data", "metric")}


def tensors_that_cross(context: SplitContext, layer: Layer) -> tuple[str, ...]:
    """Return what crosses when the network is cut after `layer`, in the graph's order.

    Raises CoopexportError naming the layer and all that crosses when that is more than split.maximum_tensors.
    """
    tensor = cut_tensor_of(layer, context.settings.at)
    try:
        cut_tensors = cut_tensors_after(context.variant.index, tensor, context.variant.types)
    except CoopexportError as error:
        raise reworded(error, f'layer "{layer.name}": {error}', layer=layer.name) from None
    count, most = len(cut_tensors.tensors), context.settings.maximum_tensors
    if count > most:
        raise UnsupportedError(
            f'layer "{layer.name}": {describe_cut_tensors(cut_tensors, context.variant.types)}; or let {count} tensors '
            f"cross with --max-tensors {count}",
            layer=layer.name,
        )
    return tuple(name for name, _ in cut_tensors.tensors)


def golden_file(context: SplitContext, results: dict[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a golden file: images and inputs of the context, and `results` by name."""
    arrays: dict[str, NDArray[Any]] = {
        "images": context.data.calibration.images[:GOLDEN_SAMPLES],
        "inputs": context.data.calibration_inputs[:GOLDEN_SAMPLES],
    }
    arrays.update((name, value[:GOLDEN_SAMPLES]) for name, value in results.items())
    return golden_bytes(arrays)
