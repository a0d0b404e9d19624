"""What the search of encodings found for a cut, on disk: `<layer>.encodings.json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calibration.codecs.search import Trial
from exporter.bundles.records import read_record
from exporter.project.freshness import Inputs, check_fresh, digest
from exporter.project.settings import SplitSection
from jetson.errors import ParityError, StaleError
from jetson.files.json_files import write_json

SCHEMA = "coopexport.encodings/1.1"


class EncodingFile(BaseModel):
    """`front`: trials that no other beats; `recommended`: that of fewest bytes within `maximum_loss_points`.

    `made_from`: as of `search_inputs`; `rans`: which implementation of the entropy coder was timed; `trials`: how many
    there were in all.
    """

    model_config = ConfigDict(frozen=True)

    variant: str
    layer: str
    tensors: tuple[str, ...]
    made_from: dict[str, str] = {}
    metric: str
    samples: int
    rans: str
    trials: int
    maximum_loss_points: float
    front: tuple[Trial, ...]
    recommended: Trial | None


def encoding_path(folder: Path, layer: str) -> Path:
    """Return where the file of a layer is."""
    return folder / f"{layer}.encodings.json"


def write_encodings(folder: Path, content: EncodingFile) -> Path:
    """Write what was found for a layer and return the path."""
    path = encoding_path(folder, content.layer)
    values: dict[str, Any] = content.model_dump(mode="json")
    write_json(str(path), SCHEMA, values)
    return path


def read_encodings(folder: Path, layer: str) -> EncodingFile:
    """Read what was found for a layer; raises CoopexportError when it is missing or malformed."""
    path = encoding_path(folder, layer)
    if not path.is_file():
        raise StaleError(
            f"there is no {path}", layer=layer, path=path, fix=f"make it with: coopexport search --layer {layer}"
        )
    return read_record(EncodingFile, path, SCHEMA, f"run: coopexport search --layer {layer}")


def search_inputs(calibrated: Inputs, metric: str | None, settings: SplitSection) -> dict[str, str | None]:
    """Return what the search is made from, its format aside: what calibration is, the metric, and where the cut is."""
    return {**calibrated, "metric": metric, "split settings": digest(settings.at)}


def with_recommendation(settings: SplitSection, folder: Path, layer: str, now: Inputs) -> SplitSection:
    """Return `settings` with the encoding that was recommended for a layer; `now`: as of `search_inputs`.

    Raises CoopexportError when nothing was searched for, when what was searched has changed, or when nothing was within
    the bound.
    """
    found = read_encodings(folder, layer)
    command = f"coopexport search --layer {layer}"
    check_fresh(f"{encoding_path(folder, layer)} was made", found.made_from, now, command, layer)
    trial = found.recommended
    if trial is None:
        raise ParityError(
            f"layer {layer}: no encoding surely loses at most {found.maximum_loss_points} points on {found.samples} "
            "calibration images",
            layer=layer,
            fix="cut elsewhere, raise data.calibration_samples, or search with a larger --maximum-loss",
        )
    chosen = {key: value for key, value in asdict(trial).items() if key in SplitSection.model_fields}
    given = {key: value for key, value in chosen.items() if value is not None}
    return settings.model_copy(update={"encoding": "affine", "packing": "none", **given})
