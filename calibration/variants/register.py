"""Register a variant: export it, measure the exported graph, and write what is known of it as `variant.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.metrics import metric
from calibration.metrics.confidence import metric_interval
from calibration.metrics.metric import MetricFunction, Score
from exporter.bundles.bundle import Metric
from exporter.data.datasets import Dataset, load_dataset, network_inputs
from exporter.layers.graph_size import size_of
from exporter.onnx_graphs.session import open_session, run
from exporter.project.freshness import FORMAT, Inputs, recorded
from exporter.project.settings import Project
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.bottleneck_graph import rounded_graph
from exporter.variants.layer_graphs import LayerGraph, layer_graph
from exporter.variants.plans import ORIGINAL, bottleneck_of
from exporter.variants.record import SCHEMA, Step, VariantRecord, pack_right, write_variant_record
from exporter.variants.staleness import measured_inputs, record_inputs


@dataclass(frozen=True)
class Lineage:
    """Where a variant comes from and what was done to it, as its record says; see `VariantRecord`."""

    parent: str | None
    series: str | None
    step: Step
    method: Mapping[str, Any]
    cuts: tuple[str, ...] | None
    training: Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What all variants are measured with, loaded once.

    `measured`: digests of data, preprocessing and metric. `inputs`: of all evaluation images, N x input_shape, float32,
    preprocessed. `original`: the score of the original's exported graph.
    """

    dataset: Dataset
    measured: Inputs
    inputs: NDArray[np.float32]
    metric: tuple[str, MetricFunction]
    original: Score

    def score(self, graph: LayerGraph, bits: int | None = None) -> Score:
        """Return the score of an exported graph; raises CoopexportError when it is damaged or the metric fails.

        `bits`: of the symbols that its bottleneck is rounded to; None where it has none.
        """
        return _score(graph, self.inputs, self.metric, self.dataset, bits)

    def compare(self, score: Score) -> Metric:
        """Return the record of `score` beside the original's, with the data that both were measured on."""
        named = {"data": self.dataset.name, "data_sha256": self.measured["evaluation data"]}
        return metric.compare(self.original, score).model_copy(update=named)


def open_evaluation(project: Project) -> Evaluation:
    """Load a project's evaluation data and metric, and score the original's exported graph.

    Raises CoopexportError when the project names no evaluation data, or the original cannot be exported or scored.
    """
    dataset = load_dataset(project, "evaluation")
    inputs, chosen = network_inputs(project, dataset), metric.load_metric(project)
    original = _score(layer_graph(project, ORIGINAL), inputs, chosen, dataset)
    return Evaluation(dataset, measured_inputs(project), inputs, chosen, original)


def register_variant(project: Project, variant: str, lineage: Lineage, evaluation: Evaluation) -> VariantRecord:
    """Export `variant`, measure the exported graph in ONNX Runtime, write `variant.json` and return its content.

    The graph runs with all optimisations, as it is deployed, on one thread. Raises CoopexportError when the variant's
    files are missing or stale, when the export fails, or when the metric yields no number; no record is written then.
    """
    graph = layer_graph(project, variant)
    bottleneck = bottleneck_of(project, variant)
    plan = None if variant == ORIGINAL or bottleneck is not None else read_shrink_plan(graph.folder)
    now = record_inputs(project, variant, graph.model_sha256, evaluation.measured)
    size = size_of(graph.load())
    bits = None if bottleneck is None else bottleneck.bits
    score = evaluation.original if variant == ORIGINAL else evaluation.score(graph, bits)
    record = VariantRecord(
        variant=variant,
        parent=lineage.parent,
        series=lineage.series,
        step=lineage.step,
        method=dict(lineage.method),
        cuts=lineage.cuts,
        made_from=recorded({**now, FORMAT: SCHEMA}),
        masks_sha256=None if plan is None else plan.effective_masks_sha256,
        widths=dict(size.widths),
        macs=size.macs,
        parameters=size.parameters,
        training=dict(lineage.training),
        metric=evaluation.compare(score),
        interval=metric_interval(score.per_image),
        right=pack_right(score.per_image),
        parity=(*(() if plan is None else plan.parity), *graph.parity),
    )
    write_variant_record(graph.folder, record)
    return record


def _score(
    graph: LayerGraph,
    inputs: NDArray[np.float32],
    chosen: tuple[str, MetricFunction],
    dataset: Dataset,
    bits: int | None = None,
) -> Score:
    if bits is None:
        session = open_session(graph.verified_file(), "all")
    else:
        session = open_session(rounded_graph(graph, bits), "all", weights_folder=graph.folder)
    return metric.score(chosen, run(session, [inputs])[0], dataset.labels)
