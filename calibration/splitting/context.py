"""What splitting a variant needs, loaded once for all its cuts: graph, data, reference scores; and what crosses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.metrics import metric
from calibration.metrics.metric import Score
from calibration.ranges.calibration_file import clip_ranges
from exporter.bundles.bundle import Metric, golden_bytes
from exporter.cutting.split import CutTensor, cut_tensor_of, whole_outputs
from exporter.data.datasets import Dataset, load_dataset, network_inputs
from exporter.encoding.specification import FLOAT16, FLOAT32, affine_specification
from exporter.layers.candidates import Layer
from exporter.layers.cut_points import cut_tensors_after, describe_cut_tensors
from exporter.onnx_graphs.index import GraphIndex, index_graph
from exporter.onnx_graphs.session import Optimisation, open_session, run
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from exporter.project.settings import Project, SplitSection
from exporter.variants.layer_graphs import LayerGraph
from jetson.errors import CoopexportError, UnsupportedError, reworded
from jetson.files.atomic_files import sha256_of_bytes

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GOLDEN_SAMPLES = 16
# The parity checks of a cut run on this many calibration images.
PARITY_SAMPLES = 64


@dataclass(frozen=True)
class SplitContext:
    """All that splitting a variant needs, loaded once for all its layers.

    `whole`: the score of the whole graph; `whole_outputs`: what it makes of the inputs of the parity checks.
    """

    project: Project
    settings: SplitSection
    graph: LayerGraph
    index: GraphIndex
    types: Mapping[str, TensorType]
    calibration: Dataset
    calibration_inputs: NDArray[np.float32]
    evaluation: Dataset
    evaluation_inputs: NDArray[np.float32]
    metric: tuple[str, metric.MetricFunction]
    whole: Score
    whole_outputs: Mapping[str, NDArray[Any]]
    calibration_sha256: str
    evaluation_sha256: str

    @property
    def model(self) -> onnx.ModelProto:
        """Return the whole graph; its large weights lie in the variant's folder."""
        return self.index.model

    def open(self, model: onnx.ModelProto, optimisation: Optimisation = "all") -> InferenceSession:
        """Open the whole graph or a part of it, whose weights lie in the variant's folder."""
        return open_session(model, optimisation, weights_folder=self.graph.folder)

    def compare(self, score: Score) -> Metric:
        """Return the record of `score` beside the whole graph's, with the data that both were measured on."""
        measured = metric.compare(self.whole, score)
        data = self.project.settings.data.evaluation
        return measured.model_copy(update={"data": data, "data_sha256": self.evaluation_sha256})


@dataclass(frozen=True)
class SplitData:
    """What all variants are calibrated and measured with: images, the network's inputs made of them, and the metric.

    Hashes: of the calibration inputs, and of the evaluation data as they arrive.
    """

    calibration: Dataset
    calibration_inputs: NDArray[np.float32]
    calibration_sha256: str
    evaluation: Dataset
    evaluation_inputs: NDArray[np.float32]
    evaluation_sha256: str
    metric: tuple[str, metric.MetricFunction]


def open_data(project: Project) -> SplitData:
    """Load a project's data and metric; raises CoopexportError when one of them is missing or malformed."""
    calibration = load_dataset(project, "calibration").first(project.settings.data.calibration_samples)
    evaluation = load_dataset(project, "evaluation")
    calibration_inputs = network_inputs(project, calibration)
    return SplitData(
        calibration,
        calibration_inputs,
        sha256_of_bytes(np.ascontiguousarray(calibration_inputs).tobytes()),
        evaluation,
        network_inputs(project, evaluation),
        evaluation.sha256(),
        metric.load_metric(project),
    )


def open_context(
    project: Project, settings: SplitSection, graph: LayerGraph, data: SplitData | None = None
) -> SplitContext:
    """Load the graph of a variant and score it whole, as exported, on the evaluation data.

    `data`: what `open_data` returns, where several variants share it.
    """
    data = open_data(project) if data is None else data
    model = graph.load()
    outputs = run(open_session(model, "all", weights_folder=graph.folder), [data.evaluation_inputs])[0]
    return SplitContext(
        project,
        settings,
        graph,
        index_graph(model),
        tensor_types(model),
        data.calibration,
        data.calibration_inputs,
        data.evaluation,
        data.evaluation_inputs,
        data.metric,
        metric.score(data.metric, outputs, data.evaluation.labels),
        whole_outputs(model, data.calibration_inputs[:PARITY_SAMPLES], graph.folder),
        data.calibration_sha256,
        data.evaluation_sha256,
    )


def calibrated_cut_tensors(
    context: SplitContext, layers: Sequence[Layer], on_progress: Callable[[int], None] | None = None
) -> dict[str, tuple[CutTensor, ...]]:
    """Return what crosses when the network is cut after each of `layers`, and how it is encoded, by layer name."""
    settings = context.settings
    cut_tensors = {layer.name: tensors_that_cross(context, layer) for layer in layers}
    every = list(dict.fromkeys(tensor for tensors in cut_tensors.values() for tensor in tensors))
    if settings.encoding == "affine":
        ranges = clip_ranges(
            context.project,
            context.graph,
            every,
            context.calibration,
            context.calibration_inputs,
            settings,
            on_progress,
        )
        encodings = {
            tensor: affine_specification(clip, settings.bits, settings.packing) for tensor, clip in ranges.items()
        }
    else:
        encodings = dict.fromkeys(every, FLOAT16 if settings.encoding == "float16" else FLOAT32)
    return {
        name: tuple(CutTensor(tensor, context.types[tensor].shape, encodings[tensor]) for tensor in tensors)
        for name, tensors in cut_tensors.items()
    }


def tensors_that_cross(context: SplitContext, layer: Layer) -> tuple[str, ...]:
    """Return what crosses when the network is cut after `layer`, in the graph's order.

    Raises CoopexportError naming the layer and all that crosses when that is more than split.maximum_tensors.
    """
    tensor = cut_tensor_of(layer, context.settings.at)
    try:
        cut_tensors = cut_tensors_after(context.index, tensor, context.types)
    except CoopexportError as error:
        raise reworded(error, f'layer "{layer.name}": {error}', layer=layer.name) from None
    count, most = len(cut_tensors.tensors), context.settings.maximum_tensors
    if count > most:
        raise UnsupportedError(
            f'layer "{layer.name}": {describe_cut_tensors(cut_tensors, context.types)}; or let {count} tensors cross '
            f"with --max-tensors {count}",
            layer=layer.name,
        )
    return tuple(name for name, _ in cut_tensors.tensors)


def golden_file(context: SplitContext, results: dict[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a golden file: images and inputs of the context, and `results` by name."""
    arrays: dict[str, NDArray[Any]] = {
        "images": context.calibration.images[:GOLDEN_SAMPLES],
        "inputs": context.calibration_inputs[:GOLDEN_SAMPLES],
    }
    arrays.update((name, value[:GOLDEN_SAMPLES]) for name, value in results.items())
    return golden_bytes(arrays)
