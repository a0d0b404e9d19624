"""Clip ranges on disk, each reused while graph, data and the way of choosing it are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import calibrate
from exporter.bundles.records import read_record
from exporter.encoding.specification import ClipRange
from exporter.project.freshness import FORMAT, Inputs, changed_inputs, digest, recorded
from exporter.project.settings import SplitSection
from exporter.variants.layer_graphs import LayerGraph
from jetson.files.json_files import write_json

SCHEMA = "coopexport.calibration/2.1"
FILE_NAME = "calibration.json"


class CalibrationFile(BaseModel):
    """`calibration.json`: clip ranges by tensor.

    `made_from`: what all are measured on. `settings`: of each a digest of how it was chosen, which may be another for
    every cut: so are the encodings that are recommended.
    """

    model_config = ConfigDict(frozen=True)
    variant: str
    made_from: dict[str, str] = {}
    ranges: dict[str, ClipRange]
    settings: dict[str, str] = {}


def clip_ranges(
    graph: LayerGraph,
    tensors: Sequence[str],
    made_from: Inputs,
    inputs: Callable[[], NDArray[np.float32]],
    settings: SplitSection,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, ClipRange]:
    """Return the clip range of each tensor: those of `calibration.json` that are still fresh, the others measured now.

    `made_from`: digests of graph and data as they are now; `inputs`: gives the preprocessed images, which are not
    loaded where every range is there. Newly measured ranges are added to the file.
    """
    path, chosen = graph.folder / FILE_NAME, clip_settings(settings)
    now = {**made_from, FORMAT: SCHEMA}
    wanted = chosen_by(chosen)
    file = CalibrationFile(variant=graph.variant, made_from=recorded(now), ranges={})
    if path.is_file():
        stored = read_record(CalibrationFile, path, SCHEMA, "delete it and run: coopexport calibrate")
        file = file if changed_inputs(stored.made_from, now) else stored
    missing = [name for name in dict.fromkeys(tensors) if name not in file.ranges or file.settings.get(name) != wanted]
    if missing:
        measured = calibrate(graph.load(), missing, inputs(), chosen, on_progress, graph.folder)
        ranges, known = {**file.ranges, **measured}, {**file.settings, **dict.fromkeys(missing, wanted)}
        file = file.model_copy(update={"ranges": ranges, "settings": known})
        write_json(str(path), SCHEMA, file.model_dump(mode="json"))
    return {name: file.ranges[name] for name in tensors}


def chosen_by(settings: ClipSettings) -> str:
    """Return a digest of the settings that a range depends on; each is for some methods alone."""
    percentile = settings.percentile if settings.method == "percentile" else None
    bits = settings.bits if settings.method in ("mse", "kl") else None
    return digest([settings.method, settings.granularity, percentile, bits])


def clip_settings(settings: SplitSection) -> ClipSettings:
    """Return how the project, or the command line, wants ranges chosen."""
    return ClipSettings(settings.clip, settings.percentile, settings.granularity, settings.bits)
