"""Clip ranges on disk, each reused while graph, data and the way of choosing it are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import calibrate
from exporter.data.datasets import Dataset
from exporter.encoding.specification import ClipRange
from exporter.project.settings import Project, SplitSection
from exporter.variants.layer_graphs import LayerGraph
from jetson.errors import DamagedFileError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.files.json_files import read_json, write_json

SCHEMA = "coopexport.calibration/2.0"
FILE_NAME = "calibration.json"


def clip_ranges(
    project: Project,
    graph: LayerGraph,
    tensors: Sequence[str],
    dataset: Dataset,
    inputs: NDArray[np.float32],
    settings: SplitSection,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, ClipRange]:
    """Return the clip range of each tensor: those of `calibration.json` that still fit, the others measured now.

    `inputs`: the preprocessed images of `dataset`. Newly measured ranges are added to the file.
    """
    path = graph.folder / FILE_NAME
    chosen = clip_settings(settings)
    origin: dict[str, object] = {
        "model_sha256": graph.model_sha256,
        "data_sha256": sha256_of_bytes(np.ascontiguousarray(inputs).tobytes()),
    }
    known = _read(path, origin)
    missing = [name for name in dict.fromkeys(tensors) if name not in known or not _fits(known[name], chosen)]
    if missing:
        measured = calibrate(graph.load(), missing, inputs, chosen, on_progress, graph.folder)
        known = {**known, **measured}
        ranges = {name: asdict(clip) for name, clip in known.items()}
        write_json(str(path), SCHEMA, {"variant": graph.variant, "data": dataset.name, **origin, "ranges": ranges})
    return {name: known[name] for name in tensors}


def _fits(clip: ClipRange, settings: ClipSettings) -> bool:
    """Tell whether a range was chosen as `settings` want it."""
    return (
        (clip.method, clip.granularity) == (settings.method, settings.granularity)
        and (clip.percentile is None or clip.percentile == settings.percentile)
        and (clip.bits is None or clip.bits == settings.bits)
    )


def clip_settings(settings: SplitSection) -> ClipSettings:
    """Return how the project, or the command line, wants ranges chosen."""
    return ClipSettings(settings.clip, settings.percentile, settings.granularity, settings.bits)


def _read(path: Path, origin: dict[str, object]) -> dict[str, ClipRange]:
    if not path.is_file():
        return {}
    content = read_json(str(path), SCHEMA)
    if any(content.get(key) != value for key, value in origin.items()):
        return {}
    try:
        return TypeAdapter(dict[str, ClipRange]).validate_python(content.get("ranges"))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, ("ranges", *problem["loc"])))
        raise DamagedFileError(
            f"{path} is malformed ({where}: {problem['msg']})", path=path, fix="delete it and run: coopexport calibrate"
        ) from None
