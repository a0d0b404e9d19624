"""One graph in memory in another precision, without a project: no accuracy is judged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from calibration.precision.graph_layers import node_layers
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.lowering import half_lowering, int8_lowering
from calibration.precision.subject import Part
from exporter.bundles.bundle import FileRecord
from exporter.bundles.precision_file import PRECISIONS, KeptLayer, Precision
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name, find_layer
from jetson.errors import InputError


def lower(
    model: onnx.ModelProto,
    precision: Precision,
    inputs: Sequence[NDArray[Any]],
    keep: Collection[str] = (),
    ranges: RangeSettings | None = None,
    layers: Sequence[Layer] = (),
    kept_in_half: bool = False,
) -> tuple[onnx.ModelProto, tuple[KeptLayer, ...]]:
    """Return `model` in float16 ("fp16") or int8 ("int8"), and the layers that are not, with reasons.

    `model`: a head, a tail or a whole network, weights inside; `inputs`: calibration data in the order of its inputs,
    N x ... each. `keep`: layers to leave out, by any name that `coopexport split` takes for `layers` (of the whole
    exported network), or by their modules' paths. `ranges`: of int8; `kept_in_half`: beside int8, run those layers in
    float16. Raises CoopexportError for another precision, a layer to keep that does not exist, and when an activation
    is not finite in float32.
    """
    if precision not in PRECISIONS:
        raise InputError(f'precision "{precision}" is unknown', fix=f"use one of {', '.join(PRECISIONS)}")
    part = Part("graph", model, FileRecord(file="", sha256=""), node_layers(model, layers), False)
    named = {_layer_called(name, part, layers) for name in keep}
    if precision == "fp16":
        lowering = half_lowering(part, inputs)
    else:
        lowering = int8_lowering(part, inputs, ranges or RangeSettings(), kept_in_half)
    kept = {**{layer: "kept by name" for layer in lowering.fit if layer in named}, **lowering.unfit}
    made = lowering.lowered([layer for layer in lowering.fit if layer not in kept])
    records = (
        KeptLayer(layer=layer, reason=reason, precision="fp16" if layer in lowering.halves else "fp32")
        for layer, reason in kept.items()
    )
    return made, tuple(records)


def _layer_called(name: str, part: Part, layers: Sequence[Layer]) -> str:
    """Return what `part` calls a layer; one that lies in the other half is no error."""
    if name in part.layers:
        return name
    if not layers:
        raise InputError(
            f'there is no layer "{name}" to keep; there are {", ".join(dict.fromkeys(part.layers))}', layer=name
        )
    return display_name(tuple(layers), find_layer(layers, name))
