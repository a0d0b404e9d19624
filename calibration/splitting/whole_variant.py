"""The candidates of a variant that need no cut, measured and written as `whole.json`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.codecs import input_coding
from calibration.codecs.input_coding import HIGHEST_QUALITY, PictureCodec
from calibration.metrics import metric
from calibration.splitting.context import GOLDEN_SAMPLES, SplitContext, golden_file
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import (
    WHOLE_SCHEMA,
    FileRecord,
    InputCoding,
    Metric,
    WholeFile,
    read_whole,
    verify_file,
    write_bundle,
)
from exporter.bundles.golden import golden_of_whole
from exporter.data.datasets import Dataset, network_inputs
from exporter.onnx_graphs.session import run
from exporter.project.freshness import FORMAT, Inputs, changed_inputs, recorded
from exporter.variants.layer_graphs import GRAPH_FILE
from exporter.variants.staleness import whole_inputs
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime import preprocessing
from jetson.wire.image_message import raw_payload

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# How far a quality rises at a time, where the calibrated one loses too much.
_QUALITY_STEP = 5


def finished_whole(context: SplitContext) -> tuple[Path, WholeFile] | None:
    """Return path and content of `whole.json` when it is there, whole, and nothing that it is made from has changed."""
    folder = context.graph.folder
    try:
        found = read_whole(folder)
        if changed_inputs(found.made_from, written_inputs(context)):
            return None
        verify_file(folder, found.golden)
    except (StaleError, DamagedFileError):
        return None
    return folder / "whole.json", found


def written_inputs(context: SplitContext) -> Inputs:
    """Return what `whole.json` is made from, its format included."""
    return {**whole_inputs(context.project, context.graph, context.data.made_from), FORMAT: WHOLE_SCHEMA}


def write_whole(context: SplitContext) -> tuple[Path, WholeFile]:
    """Measure the candidates that need no cut and write `whole.json`; return its path and content."""
    project, evaluation = context.project, context.data.evaluation
    raw_sizes = [len(raw_payload(image)) for image in evaluation.images]
    same = context.compare(context.variant.whole)
    session = context.open(context.model)
    parity_inputs = context.data.calibration_inputs[:GOLDEN_SAMPLES]
    golden = golden_file(context, golden_of_whole(run(context.open(context.model, "disabled"), [parity_inputs])))
    manifest = WholeFile(
        variant=context.graph.variant,
        made_from=recorded(written_inputs(context)),
        model=FileRecord(file=GRAPH_FILE, sha256=context.graph.model_sha256),
        preprocessing=preprocessing.to_json(project.preprocessing),
        metric=same,
        inputs={
            "raw": InputCoding(payload_bytes=input_coding.payload_statistics(raw_sizes), metric=same),
            **{codec: _picture_coding(context, session, codec) for codec in input_coding.PICTURE_PAYLOADS},
        },
        golden=FileRecord(file="whole.golden.npz", sha256=sha256_of_bytes(golden)),
    )
    write_bundle(context.graph.folder, "whole.json", WHOLE_SCHEMA, manifest, {"whole.golden.npz": golden})
    return context.graph.folder / "whole.json", manifest


def _picture_coding(context: SplitContext, session: InferenceSession, codec: PictureCodec) -> InputCoding:
    """Return the image as a picture codec sends it, measured on evaluation data.

    Its quality is the project's, or the lowest that keeps the bound of accuracy on calibration data. Where that one
    loses more on evaluation data, it rises until it does not: left out, it would be no competitor at all.
    """
    select, data = context.project.settings.select, context.data
    bound, given = select.maximum_loss_points, select.jpeg_quality if codec == "jpeg" else select.webp_quality
    measured = _measured_at(context, session, codec)
    quality = given if given != "lowest" else _lowest_quality(context, session, codec)
    while given == "lowest" and quality < HIGHEST_QUALITY and not keeps_bound(measured(quality).loss_points, bound):
        quality = min(HIGHEST_QUALITY, quality + _QUALITY_STEP)
    sizes = data.evaluation_pictures.coded(codec, quality)[1]
    return InputCoding(payload_bytes=input_coding.payload_statistics(sizes), metric=measured(quality), quality=quality)


def _measured_at(context: SplitContext, session: InferenceSession, codec: PictureCodec) -> Callable[[int], Metric]:
    """Return what gives the metric on evaluation data at a quality."""

    @cache
    def measured(quality: int) -> Metric:
        arrived = context.data.evaluation_pictures.coded(codec, quality)[0]
        return context.compare(_score(context, session, context.data.evaluation, arrived))

    return measured


def _lowest_quality(context: SplitContext, session: InferenceSession, codec: PictureCodec) -> int:
    """Return the lowest quality that keeps the bound of accuracy on calibration data."""
    data = context.data
    reference = _score(context, session, data.calibration, data.calibration.images).value

    def loss_points(quality: int) -> float:
        arrived = data.calibration_pictures.coded(codec, quality)[0]
        return 100.0 * (reference - _score(context, session, data.calibration, arrived).value)

    return input_coding.lowest_quality(loss_points, context.project.settings.select.maximum_loss_points)


def _score(context: SplitContext, session: InferenceSession, data: Dataset, arrived: NDArray[np.uint8]) -> metric.Score:
    inputs = network_inputs(context.project, Dataset(data.name, arrived, data.labels))
    return metric.score(context.data.metric, run(session, [inputs])[0], data.labels)
