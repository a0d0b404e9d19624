"""The candidates of a variant that need no cut, measured and written as `whole.json`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.codecs import input_coding
from calibration.metrics import metric
from calibration.splitting.context import GOLDEN_SAMPLES, SplitContext, golden_file
from exporter.bundles.bundle import (
    WHOLE_SCHEMA,
    FileRecord,
    InputCoding,
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
    quality = project.settings.select.jpeg_quality
    raw_sizes = [len(input_coding.raw_payload(image)) for image in evaluation.images]
    jpegs = [input_coding.jpeg_payload(image, quality) for image in evaluation.images]
    arrived = np.stack([input_coding.decode_jpeg(payload) for payload in jpegs])
    arrived_inputs = network_inputs(project, Dataset(evaluation.name, arrived, evaluation.labels))
    jpeg_outputs = run(context.open(context.model), [arrived_inputs])[0]
    jpeg_score = metric.score(context.data.metric, jpeg_outputs, evaluation.labels)
    same = context.compare(context.variant.whole)
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
