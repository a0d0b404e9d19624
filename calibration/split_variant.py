"""One variant of a project, split: clip ranges, gates, golden data, bytes and metric, written as bundles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration import input_coding, metric
from calibration.calibration_file import clip_ranges
from calibration.metric import Score
from exporter.bundle import (
    SPLIT_SCHEMA,
    WHOLE_SCHEMA,
    BoundaryTensor,
    FileRecord,
    InputCoding,
    Metric,
    PayloadBytes,
    SplitFile,
    WholeFile,
    golden_bytes,
    with_external_weights,
    write_bundle,
)
from exporter.candidates import Layer
from exporter.datasets import Dataset, load_dataset, network_inputs
from exporter.encoding import EncodeSpecification, affine_specification
from exporter.onnx_session import open_session, run
from exporter.project import Project, SplitSection
from exporter.split import Split, boundary_tensor, display_name, split
from exporter.variants import GRAPH_FILE, LayerGraph
from jetson import preprocessing
from jetson.atomic_files import sha256_of_bytes
from jetson.errors import CoopexportError
from jetson.wire import TensorSpecification, pack

GOLDEN_SAMPLES = 16
# The cut's gate runs on this many calibration images.
_GATE_SAMPLES = 64
# Plan and latency table call the candidates that need no cut so.
_RESERVED_NAMES = ("input", "output", "whole")
# Far below one image in a million: the difference of two means is not exact.
_LOSS_TOLERANCE_POINTS = 1e-6


@dataclass(frozen=True)
class SplitContext:
    """All that splitting a variant needs, loaded once for all its layers."""

    project: Project
    settings: SplitSection
    graph: LayerGraph
    model: onnx.ModelProto
    calibration: Dataset
    calibration_inputs: NDArray[np.float32]
    evaluation: Dataset
    evaluation_inputs: NDArray[np.float32]
    metric: tuple[str, metric.MetricFunction]
    whole: Score
    evaluation_sha256: str

    def compare(self, score: Score) -> Metric:
        """Return the record of `score` beside the whole graph's, with the data that both were measured on."""
        measured = metric.compare(self.whole, score)
        data = self.project.settings.data.evaluation
        return measured.model_copy(update={"data": data, "data_sha256": self.evaluation_sha256})


def open_context(project: Project, settings: SplitSection, graph: LayerGraph) -> SplitContext:
    """Load data and graph of a variant and score the whole graph, as exported, on the evaluation data."""
    calibration = load_dataset(project, "calibration").first(project.settings.data.calibration_samples)
    evaluation = load_dataset(project, "evaluation")
    evaluation_inputs = network_inputs(project, evaluation)
    model = graph.load()
    chosen = metric.load_metric(project)
    outputs = run(open_session(model, "all"), [evaluation_inputs])[0]
    return SplitContext(
        project,
        settings,
        graph,
        model,
        calibration,
        network_inputs(project, calibration),
        evaluation,
        evaluation_inputs,
        chosen,
        metric.score(chosen, outputs, evaluation.labels),
        evaluation.sha256(),
    )


def specifications(
    context: SplitContext, layers: Sequence[Layer], on_progress: Callable[[int], None] | None = None
) -> dict[str, EncodeSpecification]:
    """Return the encode specification of each layer's boundary tensor, by layer name."""
    tensors = {layer.name: boundary_tensor(layer, context.settings.at) for layer in layers}
    if context.settings.encoding == "float32":
        return {name: EncodeSpecification("float32") for name in tensors}
    ranges = clip_ranges(
        context.project,
        context.graph,
        list(tensors.values()),
        context.calibration,
        context.calibration_inputs,
        context.settings,
        on_progress,
    )
    return {name: affine_specification(ranges[tensor]) for name, tensor in tensors.items()}


def write_split(context: SplitContext, layer: Layer, specification: EncodeSpecification) -> tuple[Path, SplitFile]:
    """Cut at `layer`, check, measure and write its bundle; return the manifest's path and content.

    Raises CoopexportError naming the layer and the number when a gate fails or the encoding costs more than
    split.maximum_loss_points of the metric; nothing is written then.
    """
    name = display_name(context.graph.layers, layer)
    if name in _RESERVED_NAMES:
        raise CoopexportError(
            f'a bundle cannot be called "{name}": that name stands for a network that is not cut; rename the module, '
            "or cut at another layer"
        )
    result = split(context.model, layer, specification, context.calibration_inputs[:_GATE_SAMPLES], context.settings.at)
    symbols = run(open_session(result.encoded.head, "all"), [context.evaluation_inputs])[0]
    outputs = run(open_session(result.encoded.tail, "all"), [symbols])[0]
    measured = context.compare(metric.score(context.metric, outputs, context.evaluation.labels))
    if measured.loss_points > context.settings.maximum_loss_points + _LOSS_TOLERANCE_POINTS:
        raise CoopexportError(
            f"layer {name} of {context.graph.variant}: encoding the feature costs {measured.loss_points:.2f} points of "
            f"{measured.name} ({measured.reference:.4f} to {measured.value:.4f}), allowed are "
            f"{context.settings.maximum_loss_points}: cut elsewhere, raise split.percentile, or raise "
            "split.maximum_loss_points; nothing was written"
        )
    payload = _payload_bytes(symbols, context.settings.codec)
    head, head_files = with_external_weights(result.encoded.head)
    tail, tail_files = with_external_weights(result.encoded.tail)
    golden = _golden(context, {"symbols_0": result.symbols, "outputs": result.outputs})
    names = {part: f"{name}.{part}.onnx" for part in ("head", "tail")} | {"golden": f"{name}.golden.npz"}
    manifest = _manifest(
        context, result, name, payload, measured, names, {"head": head, "tail": tail, "golden": golden}
    )
    files = {**head_files, **tail_files, names["head"]: head, names["tail"]: tail, names["golden"]: golden}
    file_name = f"{name}.split.json"
    write_bundle(context.graph.folder, file_name, SPLIT_SCHEMA, manifest, files)
    return context.graph.folder / file_name, manifest


def _manifest(
    context: SplitContext,
    result: Split,
    name: str,
    payload: PayloadBytes,
    measured: Metric,
    names: dict[str, str],
    contents: dict[str, bytes],
) -> SplitFile:
    records = {part: FileRecord(file=names[part], sha256=sha256_of_bytes(contents[part])) for part in contents}
    return SplitFile(
        variant=context.graph.variant,
        layer=name,
        position=context.settings.at,
        source_sha256=context.graph.source_sha256,
        model_sha256=context.graph.model_sha256,
        head=records["head"],
        tail=records["tail"],
        tensors=(BoundaryTensor(name=result.tensor, shape=result.layer.shape, encoding=result.specification),),
        codec=context.settings.codec,
        preprocessing=preprocessing.to_json(context.project.preprocessing),
        golden=records["golden"],
        parity=tuple(check.to_json() for check in result.parity),
        payload_bytes=payload,
        metric=measured,
    )


def write_whole(context: SplitContext) -> tuple[Path, WholeFile]:
    """Measure the candidates that need no cut and write `whole.json`; return its path and content."""
    project, evaluation = context.project, context.evaluation
    quality = project.settings.select.jpeg_quality
    raw_sizes = [len(input_coding.raw_payload(image)) for image in evaluation.images]
    jpegs = [input_coding.jpeg_payload(image, quality) for image in evaluation.images]
    arrived = np.stack([input_coding.decode_jpeg(payload) for payload in jpegs])
    arrived_inputs = network_inputs(project, Dataset(evaluation.name, arrived, evaluation.labels))
    jpeg_outputs = run(open_session(context.model, "all"), [arrived_inputs])[0]
    jpeg_score = metric.score(context.metric, jpeg_outputs, evaluation.labels)
    same = context.compare(context.whole)
    gate = context.calibration_inputs[:GOLDEN_SAMPLES]
    golden = _golden(context, {"outputs": run(open_session(context.model, "disabled"), [gate])[0]})
    manifest = WholeFile(
        variant=context.graph.variant,
        source_sha256=context.graph.source_sha256,
        model=FileRecord(file=GRAPH_FILE, sha256=context.graph.model_sha256),
        preprocessing=preprocessing.to_json(project.preprocessing),
        metric=same,
        inputs={
            "raw": InputCoding(payload_bytes=input_coding.payload_statistics(raw_sizes), metric=same),
            "jpeg": InputCoding(
                payload_bytes=input_coding.payload_statistics([len(payload) for payload in jpegs]),
                metric=context.compare(jpeg_score),
                quality=quality,
            ),
        },
        golden=FileRecord(file="whole.golden.npz", sha256=sha256_of_bytes(golden)),
    )
    write_bundle(context.graph.folder, "whole.json", WHOLE_SCHEMA, manifest, {"whole.golden.npz": golden})
    return context.graph.folder / "whole.json", manifest


def _golden(context: SplitContext, results: dict[str, NDArray[Any]]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        "images": context.calibration.images[:GOLDEN_SAMPLES],
        "inputs": context.calibration_inputs[:GOLDEN_SAMPLES],
    }
    arrays.update((name, value[:GOLDEN_SAMPLES]) for name, value in results.items())
    return golden_bytes(arrays)


def _payload_bytes(symbols: NDArray[Any], codec: str) -> PayloadBytes:
    """Return the sizes of the real messages, one image each, header included."""
    specification = TensorSpecification(symbols.dtype.name, (1, *symbols.shape[1:]), codec)
    sizes = [len(pack([symbols[index : index + 1]], [specification])) for index in range(len(symbols))]
    return input_coding.payload_statistics(sizes)
