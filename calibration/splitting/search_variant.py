"""The search of encodings at one cut of a project's variant: features, tail and metric, from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.codecs.search import BITS, front, recommended, search, settings_to_try
from calibration.codecs.search_file import SCHEMA, EncodingFile, search_inputs, write_encodings
from calibration.metrics import metric
from calibration.ranges.clip_range import collect
from calibration.splitting.context import SplitContext, calibrated_from, tensors_that_cross
from exporter.cutting.cut import cut
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.onnx_graphs.session import run
from exporter.project.freshness import FORMAT, recorded
from jetson.wire.rans import rans_implementation

# Features of all samples are held at once; beyond this many bytes fewer samples are taken.
_FEATURE_BYTES = 1 << 29


def settings_count() -> int:
    """Return how many settings the search goes through at a cut, for the progress bar."""
    return len(settings_to_try(BITS, 4))


def search_layer(
    context: SplitContext, layer: Layer, on_progress: Callable[[int], None] | None = None
) -> tuple[Path, EncodingFile]:
    """Search the encodings of the cut after `layer`, write what was found, and return path and content.

    Raises CoopexportError when the cut is not clean, or the feature is constant.
    """
    settings = context.settings
    tensors = tensors_that_cross(context, layer)
    shapes = [context.variant.types[name].shape for name in tensors]
    halves = cut(context.variant.index, tensors, context.variant.types)
    count = min(len(context.data.calibration_inputs), max(1, _FEATURE_BYTES // (4 * sum(map(prod, shapes)))))
    inputs, labels = context.data.calibration_inputs[:count], context.data.calibration.labels[:count]
    samples = collect(context.model, tensors, inputs, weights_folder=context.graph.folder)
    features = run(context.open(halves.head), [inputs])[: len(tensors)]
    tail = context.open(halves.tail)

    def evaluate(arrived: Sequence[NDArray[np.float32]]) -> metric.Score:
        return metric.score(context.data.metric, run(tail, arrived)[0], labels)

    now = search_inputs(calibrated_from(context), context.made_from["metric"], settings)
    trials = search([samples[name] for name in tensors], features, evaluate, on_progress=on_progress)
    content = EncodingFile(
        variant=context.graph.variant,
        layer=display_name(context.graph.layers, layer),
        tensors=tensors,
        made_from=recorded({**now, FORMAT: SCHEMA}),
        metric=context.data.metric[0],
        samples=count,
        rans=rans_implementation().name,
        trials=len(trials),
        maximum_loss_points=settings.maximum_loss_points,
        front=front(trials),
        recommended=recommended(trials, settings.maximum_loss_points),
    )
    return write_encodings(context.graph.folder, content), content
