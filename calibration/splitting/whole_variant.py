"""The candidates of a variant that need no cut, measured and written as `whole.json`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.codecs import input_coding
from calibration.codecs.input_coding import HIGHEST_QUALITY
from calibration.metrics import metric
from calibration.splitting.context import GOLDEN_SAMPLES, SplitContext, golden_file
from calibration.splitting.sent_images import SentImages
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import (
    RESIZING_WHOLE_SCHEMA,
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
from exporter.data.datasets import Dataset
from exporter.onnx_graphs.session import run
from exporter.project.freshness import FORMAT, Inputs, changed_inputs, recorded
from exporter.variants.layer_graphs import GRAPH_FILE
from exporter.variants.staleness import whole_inputs
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime import preprocessing
from jetson.wire.image_message import RAW, raw_payload, resized_name
from jetson.wire.pictures import PICTURE_CODECS

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
    return {**whole_inputs(context.project, context.graph, context.data.made_from), FORMAT: _schema(context)}


def _schema(context: SplitContext) -> str:
    """Return the format of the file; files of networks whose preprocessing does not resize stay as they were."""
    return RESIZING_WHOLE_SCHEMA if preprocessing.resizes(context.project.preprocessing) else WHOLE_SCHEMA


def write_whole(context: SplitContext) -> tuple[Path, WholeFile]:
    """Measure the candidates that need no cut and write `whole.json`; return its path and content."""
    project, data = context.project, context.data
    same = context.compare(context.variant.whole)
    session = context.open(context.model)
    parity_inputs = context.data.calibration_inputs[:GOLDEN_SAMPLES]
    golden = golden_file(context, golden_of_whole(run(context.open(context.model, "disabled"), [parity_inputs])))
    inputs = _input_codings(context, session, data.sent, same)
    if data.sent_resized is not None:
        sent = data.sent_resized
        score = _score(context, session, sent, sent.evaluation, sent.evaluation.images)
        resized = _input_codings(context, session, sent, context.compare(score))
        inputs.update({resized_name(codec): coding for codec, coding in resized.items()})
    manifest = WholeFile(
        variant=context.graph.variant,
        made_from=recorded(written_inputs(context)),
        model=FileRecord(file=GRAPH_FILE, sha256=context.graph.model_sha256),
        preprocessing=preprocessing.to_json(project.preprocessing),
        metric=same,
        inputs=inputs,
        golden=FileRecord(file="whole.golden.npz", sha256=sha256_of_bytes(golden)),
    )
    write_bundle(context.graph.folder, "whole.json", _schema(context), manifest, {"whole.golden.npz": golden})
    return context.graph.folder / "whole.json", manifest


def _input_codings(
    context: SplitContext, session: InferenceSession, sent: SentImages, raw: Metric
) -> dict[str, InputCoding]:  # fmt: skip
    """Return the images that are sent, raw and as each picture codec sends them; `raw`: the metric with all of them."""
    sizes = [len(raw_payload(image)) for image in sent.evaluation.images]
    found = {RAW: InputCoding(payload_bytes=input_coding.payload_statistics(sizes), metric=raw)}
    found.update({codec: _picture_coding(context, session, sent, codec) for codec in PICTURE_CODECS})
    return found


def _picture_coding(context: SplitContext, session: InferenceSession, sent: SentImages, codec: str) -> InputCoding:
    """Return the image as a picture codec sends it, measured on evaluation data.

    Its quality is the project's, or the lowest that keeps the bound of accuracy on calibration data. Where that one
    loses more on evaluation data, it rises until it does not: left out, it would be no competitor at all.
    """
    select = context.project.settings.select
    bound, given = select.maximum_loss_points, select.jpeg_quality if codec == "jpeg" else select.webp_quality
    measured = _measured_at(context, session, sent, codec)
    quality = given if given != "lowest" else _lowest_quality(context, session, sent, codec)
    while given == "lowest" and quality < HIGHEST_QUALITY and not keeps_bound(measured(quality).loss_points, bound):
        quality = min(HIGHEST_QUALITY, quality + _QUALITY_STEP)
    sizes = sent.evaluation_pictures.coded(codec, quality)[1]
    return InputCoding(payload_bytes=input_coding.payload_statistics(sizes), metric=measured(quality), quality=quality)


def _measured_at(
    context: SplitContext, session: InferenceSession, sent: SentImages, codec: str
) -> Callable[[int], Metric]:  # fmt: skip
    """Return what gives the metric on evaluation data at a quality."""

    @cache
    def measured(quality: int) -> Metric:
        arrived = sent.evaluation_pictures.coded(codec, quality)[0]
        return context.compare(_score(context, session, sent, sent.evaluation, arrived))

    return measured


def _lowest_quality(context: SplitContext, session: InferenceSession, sent: SentImages, codec: str) -> int:
    """Return the lowest quality that keeps the bound of accuracy on calibration data."""
    calibration = sent.calibration
    reference = _score(context, session, sent, calibration, calibration.images).value

    def loss_points(quality: int) -> float:
        arrived = sent.calibration_pictures.coded(codec, quality)[0]
        return 100.0 * (reference - _score(context, session, sent, calibration, arrived).value)

    return input_coding.lowest_quality(loss_points, context.project.settings.select.maximum_loss_points)


def _score(
    context: SplitContext, session: InferenceSession, sent: SentImages, data: Dataset, arrived: NDArray[np.uint8]
) -> metric.Score:
    return metric.score(context.data.metric, run(session, [sent.inputs(data, arrived)])[0], data.labels)
