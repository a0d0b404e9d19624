"""One cut of a variant: parity, golden data, tables, bytes and metric, written as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.codecs import input_coding
from calibration.codecs.entropy_tables import fit_symbol_model
from calibration.metrics import metric
from calibration.splitting.context import PARITY_SAMPLES, SplitContext, golden_file
from exporter.bottleneck.plan import read_tables
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import (
    CutTensorRecord,
    FileRecord,
    Metric,
    PayloadBytes,
    SplitFile,
    read_split,
    verify_file,
    write_bundle,
)
from exporter.bundles.golden import golden_of_split
from exporter.cutting.split import CutTensor, Split, split
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.onnx_graphs.session import run
from exporter.onnx_graphs.weight_store import with_weights
from exporter.project.freshness import FORMAT, Inputs, changed_inputs, digest, recorded
from jetson.errors import DamagedFileError, ParityError, StaleError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime import preprocessing
from jetson.runtime.bundle_manifest import SPLIT_SCHEMA
from jetson.wire.feature import FeatureCodec, symbols_of
from jetson.wire.symbol_model import SymbolModel, model_to_bytes

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Tables are fitted to as many samples as have this many symbols: more change little and take seconds.
_FITTED_SYMBOLS = 1 << 21
# Codecs that need tables.
_TABLE_CODECS = ("rans", "rans-context")
# Partition policy and latency table call the candidates that need no cut so.
_RESERVED_NAMES = ("input", "output", "whole")
# Settings that say where cuts are made and which are kept, not what a bundle is.
_NOT_OF_A_BUNDLE = ("candidates", "maximum_tensors", "maximum_loss_points")


class LossRefusedError(ParityError):
    """The encoding of one cut costs more of the metric than the project allows; other cuts may not."""


def write_split(context: SplitContext, layer: Layer, cut_tensors: Sequence[CutTensor]) -> SplitFile:
    """Cut at `layer`, encode, check parity, measure and write its bundle; return its manifest.

    `cut_tensors`: what crosses there. Raises CoopexportError naming the layer and the number when a parity check fails,
    and LossRefusedError when the encoding costs more than split.maximum_loss_points of the metric; nothing is written
    then.
    """
    name = display_name(context.graph.layers, layer)
    if name in _RESERVED_NAMES:
        raise UnsupportedError(
            f'a bundle cannot be called "{name}": that name stands for a network that is not cut',
            layer=name,
            fix="rename the module, or cut at another layer",
        )
    parity_inputs = context.data.calibration_inputs[:PARITY_SAMPLES]
    folder = context.graph.folder
    result = split(context.variant.index, cut_tensors, parity_inputs, layer.name, context.variant.whole_outputs, folder)
    head, tail = context.open(result.encoded.head), context.open(result.encoded.tail)
    head_outputs = run(head, [context.data.evaluation_inputs])[: len(cut_tensors)]
    measured = _measure(context, cut_tensors, head_outputs, tail)
    check_loss(context, name, measured)
    models = _symbol_models(context, cut_tensors, run(head, [context.data.calibration_inputs]))
    files = _files(context, name, result, models)
    records = {file: FileRecord(file=file, sha256=sha256_of_bytes(content)) for file, content in files.items()}
    tensors = tuple(
        CutTensorRecord(
            name=item.tensor,
            shape=item.shape,
            encoding=item.encoding,
            codec=_codec(context, item),
            tables=records.get(f"{name}.tables_{index}.bin"),
        )
        for index, item in enumerate(cut_tensors)
    )
    codec = FeatureCodec(tuple(item.feature._replace(model=model) for item, model in zip(tensors, models, strict=True)))
    manifest = SplitFile(
        variant=context.graph.variant,
        layer=name,
        position=context.settings.at,
        made_from=recorded(split_inputs(context)),
        head=records[f"{name}.head.onnx"],
        tail=records[f"{name}.tail.onnx"],
        tensors=tensors,
        preprocessing=preprocessing.to_json(context.project.preprocessing),
        golden=records[f"{name}.golden.npz"],
        parity=tuple(check.to_json() for check in result.parity),
        payload_bytes=_payload_bytes(head_outputs, codec),
        metric=measured,
    )
    write_bundle(folder, f"{name}.split.json", SPLIT_SCHEMA, manifest, files)
    return manifest


def _measure(
    context: SplitContext,
    cut_tensors: Sequence[CutTensor],
    head_outputs: Sequence[NDArray[Any]],
    tail: InferenceSession,
) -> Metric:
    """Return the metric of what `tail` makes of what the head sent for the evaluation data."""
    without_tables = FeatureCodec(tuple(item.feature for item in cut_tensors))
    outputs = run(tail, without_tables.tail_inputs(without_tables.symbols(head_outputs)))[0]
    score = metric.score(context.data.metric, outputs, context.data.evaluation.labels)
    return context.compare(score, context.variant.reference)


def _files(context: SplitContext, name: str, result: Split, models: Sequence[SymbolModel | None]) -> dict[str, bytes]:
    """Return the bundle's files by name: both halves, golden data and the codec's tables."""
    golden = golden_of_split(result.head_outputs, result.tail_inputs, result.exits, result.outputs)
    return {
        f"{name}.head.onnx": _graph_file(context, result.encoded.head),
        f"{name}.tail.onnx": _graph_file(context, result.encoded.tail),
        f"{name}.golden.npz": golden_file(context, golden),
        **{f"{name}.tables_{index}.bin": model_to_bytes(model) for index, model in enumerate(models) if model},
    }


def _graph_file(context: SplitContext, half: onnx.ModelProto) -> bytes:
    """Return the bytes of one half: structure that names its weights' files, or, standalone, weights and all."""
    model = with_weights(half, context.graph.folder) if context.settings.standalone else half
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def finished_split(context: SplitContext, layer: Layer) -> SplitFile | None:
    """Return the bundle that is there, when it is whole and nothing that it is made from has changed."""
    folder = context.graph.folder
    try:
        bundle = read_split(folder, display_name(context.graph.layers, layer))
        if changed_inputs(bundle.made_from, split_inputs(context)):
            return None
        tables = [item.tables for item in bundle.tensors if item.tables is not None]
        for record in (bundle.head, bundle.tail, bundle.golden, *tables):
            verify_file(folder, record)
    except (StaleError, DamagedFileError):
        return None
    return bundle


def split_inputs(context: SplitContext) -> Inputs:
    """Return what a bundle is made from, its settings and format included."""
    settings = context.settings.model_dump(mode="json", exclude=set(_NOT_OF_A_BUNDLE))
    return {**context.made_from, "split settings": digest(settings), FORMAT: SPLIT_SCHEMA}


def check_loss(context: SplitContext, name: str, measured: Metric) -> None:
    """Raise LossRefusedError when encoding the cut `name` costs more of the metric than the settings allow."""
    if not keeps_bound(measured.loss_points, context.settings.maximum_loss_points):
        raise LossRefusedError(
            f"layer {name} of {context.graph.variant}: encoding the feature costs {measured.loss_points:.2f} points of "
            f"{measured.name} ({measured.reference:.4f} to {measured.value:.4f}), the limit is "
            f"{context.settings.maximum_loss_points}: cut elsewhere, raise split.percentile or split.bits, or raise "
            "split.maximum_loss_points; nothing was written",
            layer=name,
            number=measured.loss_points,
        )


def _codec(context: SplitContext, cut_tensor: CutTensor) -> str:
    """Return the codec of one tensor: there are no tables for floating-point numbers."""
    codec = context.settings.codec
    return codec if cut_tensor.encoding.kind == "affine" or codec == "raw" else "zlib-huffman"


def _symbol_models(
    context: SplitContext, cut_tensors: Sequence[CutTensor], head_outputs: Sequence[NDArray[Any]]
) -> list[SymbolModel | None]:
    """Fit the tables of each tensor's codec to what leaves the head for the calibration data (`head_outputs`)."""
    models: list[SymbolModel | None] = []
    if context.bottleneck is not None and context.settings.codec == "rans-context":
        return [read_tables(context.graph.folder, context.bottleneck)]  # fitted along with the network
    for cut_tensor, one in zip(cut_tensors, head_outputs, strict=False):
        codec = _codec(context, cut_tensor)
        if codec not in _TABLE_CODECS:
            models.append(None)
            continue
        enough = max(2, _FITTED_SYMBOLS // prod(cut_tensor.shape))
        symbols = symbols_of(cut_tensor.feature, one[:enough])
        models.append(fit_symbol_model(symbols, cut_tensor.encoding.bits, contexts=codec == "rans-context"))
    return models


def _payload_bytes(head_outputs: Sequence[NDArray[Any]], codec: FeatureCodec) -> PayloadBytes:
    """Return the sizes of the real messages of what leaves the head, one image each, header included."""
    samples = zip(*(np.split(array, len(array)) for array in head_outputs), strict=True)
    return input_coding.payload_statistics([len(codec.encode(sample)) for sample in samples])
