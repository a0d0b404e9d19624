"""`<layer>.<precision>.json`: the graphs of a bundle in another precision, their cost, and what engines must meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from exporter.bundles.bundle import FileRecord, Metric, SplitFile, WholeFile
from exporter.bundles.records import read_record
from exporter.project.freshness import FORMAT, check_fresh, digest
from jetson.errors import StaleError

PRECISION_SCHEMA = "coopexport.precision/1.1"
Precision = Literal["fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")
_OF_THE_BUNDLE_ALONE = ("split settings", "select settings", FORMAT)


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

    `converted`: the layers of which nodes run in the precision, `float32_layers`: the others that could. `bounds`: what
    an engine may differ from the golden data by, fed with golden inputs.
    """

    file: FileRecord
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
    `rounding`: of the pair as a whole, from its input on. `made_from`: as of `precision_inputs`, with the settings.
    """

    variant: str
    layer: str
    precision: Precision
    made_from: dict[str, str] = {}
    roles: dict[str, RoleFile]
    golden: FileRecord
    metric: Metric
    against_float32: Metric
    changed_answers: int | None = None
    maximum_loss_points: float
    ranges: dict[str, Any] | None = None
    largest_activations: dict[str, float] | None = None
    rounding: Rounding


def precision_file_name(layer: str, precision: str) -> str:
    """Return the name of the manifest of a layer ("whole": of the uncut network) in a precision."""
    return f"{layer}.{precision}.json"


def read_precision(folder: Path, layer: str, precision: str) -> PrecisionFile:
    """Read the manifest of a layer in a precision; raises CoopexportError when it is missing or malformed."""
    command = conversion_command(layer, precision)
    path = folder / precision_file_name(layer, precision)
    if not path.is_file():
        raise StaleError(f"there is no {path}", path=path, fix=f"make it with: {command}")
    return read_record(PrecisionFile, path, PRECISION_SCHEMA, f"make it again with: {command}")


def precision_inputs(bundle: SplitFile | WholeFile) -> dict[str, str | None]:
    """Return what the forms of a bundle in other precisions are made from, their own settings and format aside.

    That is what the bundle itself is made from, and its graphs and golden data.
    """
    inherited = {name: value for name, value in bundle.made_from.items() if name not in _OF_THE_BUNDLE_ALONE}
    graphs = (bundle.model,) if isinstance(bundle, WholeFile) else (bundle.head, bundle.tail)
    return {**inherited, "float32 graphs": digest([record.sha256 for record in (*graphs, bundle.golden)])}


def check_precision(record: PrecisionFile, bundle: SplitFile | WholeFile) -> None:
    """Raise StaleError when a form in another precision is older than what the bundle is, or is made from."""
    what = f"{record.layer} of {record.variant} in {record.precision} was made"
    command = conversion_command(record.layer, record.precision)
    check_fresh(what, record.made_from, precision_inputs(bundle), command, record.layer)


def conversion_command(layer: str, precision: str) -> str:
    """Return the command that converts a layer ("whole": the network that is not cut) to a precision."""
    where = "--whole" if layer == "whole" else f"--layer {layer}"
    return f"coopexport precision --precision {precision} {where}"
