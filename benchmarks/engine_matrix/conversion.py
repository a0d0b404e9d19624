"""A network's half in another precision: everything that can be lowered is, since the matrix asks what can be built."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.engine_matrix.networks import CutNetwork
from calibration.precision.activations import magnitude_histograms
from calibration.precision.half_precision import constants_out_of_range, to_half
from calibration.precision.int8_graph import quantisable_nodes, to_int8
from calibration.precision.int8_ranges import RangeSettings, int8_ranges


def converted(network: CutNetwork, role: str, precision: str) -> onnx.ModelProto:
    """Return the head or tail of `network` in "fp32", "fp16" or "int8" (ranges: least and greatest)."""
    model, inputs = (network.head, network.head_inputs) if role == "head" else (network.tail, network.tail_inputs)
    if precision == "fp16":
        return to_half(model, {number for number, _ in constants_out_of_range(model)})
    return _int8(model, inputs) if precision == "int8" else model


def _int8(model: onnx.ModelProto, inputs: NDArray[np.float32] | NDArray[np.uint8]) -> onnx.ModelProto:
    candidates = quantisable_nodes(model)
    activations = list(dict.fromkeys(item.activation for item in candidates.values()))
    ranges = int8_ranges(magnitude_histograms(model, activations, [inputs]), RangeSettings("minmax"))
    varied = {name: value for name, value in ranges.items() if value > 0}
    return to_int8(model, [number for number, item in candidates.items() if item.activation in varied], varied)
