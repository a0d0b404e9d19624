"""One graph in memory in another precision, without a project: no accuracy is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from calibration.precision.conversion import half_conversion, int8_conversion
from calibration.precision.graph_layers import node_layers
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.network_under_test import Subgraph
from exporter.bundles.bundle import FileRecord
from exporter.bundles.precision_file import PRECISIONS, FallbackLayer, Precision
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name, find_layer
from jetson.errors import InputError


def convert_precision(
    model: onnx.ModelProto,
    precision: Precision,
    inputs: Sequence[NDArray[Any]],
    keep: Collection[str] = (),
    ranges: RangeSettings | None = None,
    layers: Sequence[Layer] = (),
    kept_in_half: bool = False,
) -> tuple[onnx.ModelProto, tuple[FallbackLayer, ...]]:
    """Return `model` in float16 ("fp16") or int8 ("int8"), and the layers that are not, with reasons.

    `model`: a head, a tail or a whole network, weights inside; `inputs`: calibration data in the order of its inputs,
    N x ... each. `keep`: layers to leave out, by any name that `coopexport split` takes for `layers` (of the whole
    exported network), or by their modules' paths. `ranges`: of int8; `kept_in_half`: beside int8, run those layers in
    float16. Raises CoopexportError for another precision, a layer to keep that does not exist, and when an activation
    is not finite in float32.
    """
    if precision not in PRECISIONS:
        raise InputError(f'precision "{precision}" is unknown', fix=f"use one of {', '.join(PRECISIONS)}")
    subgraph = Subgraph("graph", model, FileRecord(file="", sha256=""), node_layers(model, layers), False)
    named = {_layer_called(name, subgraph, layers) for name in keep}
    if precision == "fp16":
        conversion = half_conversion(subgraph, inputs)
    else:
        conversion = int8_conversion(subgraph, inputs, ranges or RangeSettings(), kept_in_half)
    float32_layers = {**{layer: "chosen by name" for layer in conversion.fit if layer in named}, **conversion.unfit}
    made = conversion.converted([layer for layer in conversion.fit if layer not in float32_layers])
    records = (
        FallbackLayer(layer=layer, reason=reason, precision="fp16" if layer in conversion.halves else "fp32")
        for layer, reason in float32_layers.items()
    )
    return made, tuple(records)


def _layer_called(name: str, subgraph: Subgraph, layers: Sequence[Layer]) -> str:
    """Return what `subgraph` calls a layer; one that lies in the other half is not an error."""
    if name in subgraph.layers:
        return name
    if not layers:
        raise InputError(
            f'there is no layer "{name}" to keep; there are {", ".join(dict.fromkeys(subgraph.layers))}', layer=name
        )
    return display_name(tuple(layers), find_layer(layers, name))
