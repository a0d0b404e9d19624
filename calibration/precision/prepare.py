"""Write a bundle's graphs in another precision: converted, evaluated on held-out data, with golden data and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from calibration.precision.conversion_job import (
    ConversionJob,
    PrecisionOptions,
    PrecisionRefusedError,
    choose_float32_layers,
    open_conversion_job,
)
from calibration.precision.evaluator import Evaluation, bounds_of, open_evaluator, rounding_between
from calibration.precision.network_under_test import WHOLE, PairRun, Subgraph, check_bundle, inputs_of, run_subgraphs
from calibration.splitting.context import GOLDEN_SAMPLES, SplitContext, golden_file
from exporter.bundles.bundle import FileRecord, SplitFile, WholeFile, read_split, read_whole, verify_file, write_bundle
from exporter.bundles.golden import golden_of_split, golden_of_whole
from exporter.bundles.precision_file import (
    PRECISION_SCHEMA,
    FallbackLayer,
    Precision,
    PrecisionFile,
    RoleFile,
    precision_file_name,
    precision_inputs,
    read_precision,
)
from exporter.onnx_graphs.weight_store import store_weights
from exporter.project.freshness import FORMAT, Inputs, changed_inputs, digest, recorded
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes


def prepare_precision(
    context: SplitContext,
    layer: str,
    options: PrecisionOptions,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Path, PrecisionFile]:
    """Write the graphs of `layer` ("whole": the network that is not cut) in a precision; return manifest and its path.

    `context`: of the variant, with its data. What stays in float32 is chosen on calibration data; the loss that counts
    is measured on evaluation data. What is there is left as it is where nothing that it is made from has changed.
    Raises CoopexportError naming layer and number when the loss is above the bound; nothing is written then.
    """
    folder = context.graph.folder
    bundle = read_whole(folder) if layer == WHOLE else read_split(folder, layer)
    now = converted_inputs(bundle, options)
    path = folder / precision_file_name(layer, options.precision)
    check_bundle(bundle, layer, context.made_from)
    finished = _finished(folder, layer, options.precision, now)
    if finished is not None:
        return path, finished
    job = open_conversion_job(context, layer, options)
    network = job.network
    float32_layers = job.float32_layers(choose_float32_layers(job, on_progress))
    graphs = job.graphs(float32_layers)
    runnable = job.runnable(graphs)
    evaluation = open_evaluator(
        network, context.data.evaluation_inputs, context.data.evaluation.labels, context.data.metric
    ).evaluate(runnable)
    _check_loss(job, evaluation, float32_layers)
    assert evaluation.score is not None and evaluation.metric is not None
    inputs = context.data.calibration_inputs[:GOLDEN_SAMPLES]
    golden_run = run_subgraphs(network, runnable, inputs)
    golden = golden_file(context, _golden(golden_run))
    files = {f"{layer}.{options.precision}.golden.npz": golden}
    roles = {}
    for subgraph, conversion in zip(network.subgraphs, job.conversions, strict=True):
        name = (
            f"{layer}.{options.precision}.onnx"
            if subgraph.role == WHOLE
            else f"{layer}.{subgraph.role}.{options.precision}.onnx"
        )
        files[name] = _graph_file(subgraph, graphs[subgraph.role], folder)
        stays = tuple(
            FallbackLayer(layer=item, reason=reason, precision="fp16" if item in conversion.halves else "fp32")
            for item, reason in float32_layers[subgraph.role].items()
        )
        roles[subgraph.role] = RoleFile(
            file=FileRecord(file=name, sha256=sha256_of_bytes(files[name])),
            converted=tuple(item for item in conversion.fit if item not in float32_layers[subgraph.role]),
            float32_layers=stays,
            bounds=bounds_of(
                network, subgraph.role, runnable[subgraph.role], inputs_of(network, subgraph.role, inputs, golden_run)
            ),
        )
    manifest = PrecisionFile(
        variant=context.graph.variant,
        layer=layer,
        precision=options.precision,
        made_from=recorded(now),
        roles=roles,
        golden=FileRecord(file=f"{layer}.{options.precision}.golden.npz", sha256=sha256_of_bytes(golden)),
        metric=context.compare(evaluation.score),
        against_float32=context.named(evaluation.metric),
        changed_answers=evaluation.changed_answers,
        maximum_loss_points=options.bound_points,
        ranges=_ranges(options),
        largest_activations=_largest(job),
        rounding=rounding_between(network, run_subgraphs(network, network.graphs, inputs), golden_run),
    )
    write_bundle(folder, path.name, PRECISION_SCHEMA, manifest, files)
    return path, manifest


def _check_loss(job: ConversionJob, evaluation: Evaluation, float32_layers: dict[str, dict[str, str]]) -> None:
    if evaluation.loses_at_most(job.options.bound_points):
        return
    where = f"{job.network.layer} of {job.context.graph.variant} in {job.options.precision}"
    advice = "see which layers suffer with --sensitivity and keep them with --keep LAYER, or raise --maximum-loss"
    if evaluation.metric is None:
        raise PrecisionRefusedError(
            f"{where}: outputs are not finite on the evaluation data; {advice}; nothing was written",
            layer=job.network.layer,
        )
    measured, stays = evaluation.metric, sum(map(len, float32_layers.values()))
    raise PrecisionRefusedError(
        f"{where} costs {measured.loss_points:.2f} points of {measured.name} against float32 ({measured.reference:.4f} "
        f"to {measured.value:.4f}, {stays} layers kept in float32), the limit is {job.options.bound_points:g}: "
        f"{advice}; nothing was written",
        layer=job.network.layer,
        number=measured.loss_points,
    )


def _golden(found: PairRun) -> dict[str, NDArray[Any]]:
    if not found.head_outputs:
        return golden_of_whole(found.outputs)
    return golden_of_split(found.head_outputs, found.tail_inputs, found.exits, found.outputs)


def _graph_file(subgraph: Subgraph, model: onnx.ModelProto, folder: Path) -> bytes:
    """Return a graph's bytes, its weights in the variant's folder where the float32 graph has them there."""
    stored = store_weights(model, folder) if subgraph.is_shared else model
    content: bytes = stored.SerializeToString(deterministic=True)
    return content


def _largest(job: ConversionJob) -> dict[str, float] | None:
    found = {layer: value for conversion in job.conversions for layer, value in conversion.largest.items()}
    return found or None


def _ranges(options: PrecisionOptions) -> dict[str, object] | None:
    if options.precision != "int8":
        return None
    only = {"percentile": options.ranges.percentile} if options.ranges.method == "percentile" else {}
    return {"method": options.ranges.method, **only}


def converted_inputs(bundle: SplitFile | WholeFile, options: PrecisionOptions) -> Inputs:
    """Return what a bundle in a precision is made from, its settings and format included."""
    settings = digest([asdict(options), options.bound_points])
    return {**precision_inputs(bundle), "precision settings": settings, FORMAT: PRECISION_SCHEMA}


def _finished(folder: Path, layer: str, precision: Precision, now: Inputs) -> PrecisionFile | None:
    """Return what is there, when it is whole and nothing that it is made from has changed."""
    try:
        found = read_precision(folder, layer, precision)
        if changed_inputs(found.made_from, now):
            return None
        for record in (found.golden, *(role.file for role in found.roles.values())):
            verify_file(folder, record)
    except (StaleError, DamagedFileError):
        return None
    return found
