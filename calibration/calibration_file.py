"""Clip ranges on disk, reused while graph, data and method are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from calibration.clip_range import calibrate
from exporter.datasets import Dataset
from exporter.encoding import ClipRange
from exporter.project import Project, SplitSection
from exporter.variants import LayerGraph
from jetson.atomic_files import sha256_of_bytes
from jetson.errors import CoopexportError
from jetson.json_files import read_json, write_json

SCHEMA = "coopexport.calibration/1.0"
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
    origin: dict[str, object] = {
        "model_sha256": graph.model_sha256,
        "data_sha256": sha256_of_bytes(np.ascontiguousarray(inputs).tobytes()),
        "method": settings.clip,
        "percentile": settings.percentile if settings.clip == "percentile" else None,
    }
    known = _read(path, origin)
    missing = [name for name in dict.fromkeys(tensors) if name not in known]
    if missing:
        measured = calibrate(graph.load(), missing, inputs, settings.clip, settings.percentile, on_progress)
        known = {**known, **measured}
        ranges = {name: asdict(clip) for name, clip in known.items()}
        write_json(str(path), SCHEMA, {"variant": graph.variant, "data": dataset.name, **origin, "ranges": ranges})
    return {name: known[name] for name in tensors}


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
        raise CoopexportError(
            f"{path} is malformed ({where}: {problem['msg']}); delete it and run: coopexport calibrate"
        ) from None
