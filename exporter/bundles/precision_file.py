"""`<layer>.<precision>.json`: the graphs of a bundle in another precision, their cost, and what engines must meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from exporter.bundles.bundle import FileRecord, Metric, verify_file
from exporter.bundles.records import read_record
from jetson.errors import StaleError

PRECISION_SCHEMA = "coopexport.precision/1.0"
Precision = Literal["fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FallbackLayer(_Record):
    """A layer that is not in the precision but in float32 (or, beside int8, in float16), and why."""

    layer: str
    reason: str
    precision: Literal["fp32", "fp16"] = "fp32"


class Rounding(_Record):
    """How far the graphs are from float32 on the golden inputs.

    `output_error`: largest difference of the outputs over the spread of float32's; `symbol_fraction`: how many symbols
    differ, `symbol_difference`: by how much at most. Of the whole network and of tails the last two are 0.
    """

    output_error: float
    symbol_fraction: float
    symbol_difference: int


class RoleFile(_Record):
    """One graph: a head, a tail or the whole network.

    `source_sha256`: of the float32 graph that it was made from. `converted`: the layers of which nodes run in the
    precision, `float32_layers`: the others that could. `bounds`: what an engine may differ from the golden data by, fed
    with golden inputs.
    """

    file: FileRecord
    source_sha256: str
    converted: tuple[str, ...] = Field(
        validation_alias=AliasChoices("lowered", "converted"), serialization_alias="lowered"
    )
    float32_layers: tuple[FallbackLayer, ...] = Field(
        validation_alias=AliasChoices("kept", "float32_layers"), serialization_alias="kept"
    )
    bounds: Rounding


class PrecisionFile(_Record):
    """`<layer>.<precision>.json`; `layer` is "whole" for the network that is not cut.

    `metric`: against the whole graph, as in the bundle; `against_float32`: against the float32 pair at the same cut, on
    the same images; `changed_answers`: how many of them get another class than from it, None where outputs are no
    classes. `maximum_loss_points`: what `against_float32` was allowed to lose. `ranges`: how those of int8 were chosen.
    `rounding`: of the pair as a whole, from its input on. `float32_golden_sha256`: of the float32 graphs' golden data,
    which show other calibration images and another preprocessing.
    """

    variant: str
    layer: str
    precision: Precision
    model_sha256: str
    float32_golden_sha256: str
    roles: dict[str, RoleFile]
    golden: FileRecord
    metric: Metric
    against_float32: Metric
    changed_answers: int | None = None
    maximum_loss_points: float
    ranges: dict[str, Any] | None = None
    largest_activations: dict[str, float] | None = None
    rounding: Rounding
    recipe_sha256: str


def precision_file_name(layer: str, precision: str) -> str:
    """Return the name of the manifest of a layer ("whole": of the uncut network) in a precision."""
    return f"{layer}.{precision}.json"


def read_precision(folder: Path, layer: str, precision: str) -> PrecisionFile:
    """Read the manifest of a layer in a precision; raises CoopexportError when it is missing or malformed."""
    command = f"coopexport precision --precision {precision} " + ("--whole" if layer == "whole" else f"--layer {layer}")
    path = folder / precision_file_name(layer, precision)
    if not path.is_file():
        raise StaleError(f"there is no {path}", path=path, fix=f"make it with: {command}")
    return read_record(PrecisionFile, path, PRECISION_SCHEMA, f"make it again with: {command}")


def check_same_data(record: PrecisionFile, golden: FileRecord, metric: Metric) -> None:
    """Raise StaleError when a precision was calibrated or evaluated on other data than the float32 graphs.

    `golden`, `metric`: of the float32 bundle, or of the whole network. The graphs alone do not tell: with another
    preprocessing or evaluation set they may be the same to the bit.
    """
    if record.float32_golden_sha256 != golden.sha256:
        changed = "calibrated before calibration data or preprocessing changed"
    elif (record.metric.name, record.metric.data_sha256) != (metric.name, metric.data_sha256):
        changed = "evaluated before evaluation data or metric changed"
    else:
        return
    where = "--whole" if record.layer == "whole" else f"--layer {record.layer}"
    raise StaleError(
        f"{record.layer} of {record.variant} in {record.precision} was {changed}",
        layer=record.layer,
        fix=f"make it again with: coopexport precision --precision {record.precision} {where}",
    )


def verify_role(folder: Path, record: PrecisionFile, role: str, source_sha256: str) -> Path:
    """Return the path of the graph of `role`, made from the float32 graph with `source_sha256`.

    Raises CoopexportError when it was made from another graph than the bundle now holds, or is missing or damaged.
    """
    item = record.roles[role]
    if item.source_sha256 != source_sha256:
        raise StaleError(
            f"{folder / item.file.file} was made from an older {role} of {record.layer}",
            layer=record.layer,
            fix=f"make it again with: coopexport precision --precision {record.precision}",
        )
    return verify_file(folder, item.file)
