"""How large the activations of a graph become: their largest magnitudes, and histograms, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import UnsupportedError

BINS = 2048
# What is fetched of the watched tensors at a time.
_MAX_BYTES = 1 << 27
_MAX_SAMPLES = 32


@dataclass(frozen=True)
class MagnitudeHistogram:
    """Magnitudes of one tensor over the calibration data: `counts` of 2048 equal bins from 0 to `largest`.

    Exact zeros are in none of the bins, but in `zeros`: every quantiser with zero point 0 holds them.
    """

    largest: float
    counts: NDArray[np.float64]
    zeros: int


def largest_magnitudes(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[np.generic]]
) -> dict[str, float]:
    """Return the largest absolute value of each of `tensors` (float32) over `inputs` (of the graph, N x ... each).

    It is found inside the graph, so that no activation must be held. Raises CoopexportError naming a tensor that is
    not finite.
    """
    found = dict.fromkeys(tensors, 0.0)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for index, name in enumerate(found):
        watched.graph.node.extend(_reductions(name, index))
    reduced = [f"/{what}/{index}" for index in range(len(found)) for what in ("largest", "nan")]
    for values in _values(watched, reduced, inputs, _MAX_SAMPLES):
        for index, name in enumerate(found):
            value = float(values[f"/largest/{index}"])
            if values[f"/nan/{index}"] or not np.isfinite(value):
                raise UnsupportedError(f"tensor '{name}' holds NaN or infinity on the calibration data, in float32")
            found[name] = max(found[name], value)
    return found


def magnitude_histograms(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[np.generic]]
) -> dict[str, MagnitudeHistogram]:
    """Return the histogram of each of `tensors`; arguments and errors as of `largest_magnitudes`.

    Two passes: the extremes first, so that every histogram has its final bins from the start.
    """
    largest = largest_magnitudes(model, tensors, inputs)
    counts = {name: np.zeros(BINS) for name in largest}
    zeros = dict.fromkeys(largest, 0)
    types = tensor_types(model)
    bytes_per_sample = sum(4 * prod(types[name].shape) for name in largest if name in types)
    samples = min(_MAX_SAMPLES, max(1, _MAX_BYTES // max(1, bytes_per_sample)))
    for values in _values(model, list(largest), inputs, samples):
        for name, value in values.items():
            magnitudes = np.abs(value[value != 0]).astype(np.float64)
            zeros[name] += value.size - magnitudes.size
            places = np.minimum((magnitudes * (BINS / (largest[name] or 1.0))).astype(np.int64), BINS - 1)
            counts[name] += np.bincount(places, minlength=BINS)
    return {name: MagnitudeHistogram(largest[name], counts[name], zeros[name]) for name in largest}


def _reductions(name: str, index: int) -> list[onnx.NodeProto]:
    """Return nodes that make of a tensor its largest magnitude, and whether it holds NaN, which maxima pass over."""
    steps = (("Abs", name, "magnitude"), ("ReduceMax", f"/magnitude/{index}", "largest"),
             ("IsNaN", name, "each_nan"), ("Cast", f"/each_nan/{index}", "number"),
             ("ReduceMax", f"/number/{index}", "nan"))  # fmt: skip
    attributes: dict[str, dict[str, int]] = {"ReduceMax": {"keepdims": 0}, "Cast": {"to": TensorProto.INT32}}
    nodes = []
    for operator, source, result in steps:
        node = helper.make_node(operator, [source], [f"/{result}/{index}"], name=f"/{result}/{index}")
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.get(operator, {}).items())
        nodes.append(node)
    return nodes


def _values(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[np.generic]], samples: int
) -> Iterator[Mapping[str, NDArray[np.generic]]]:
    """Yield the values of `tensors`, `samples` inputs at a time."""
    if not tensors:
        return
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    session = open_session(watched, "disabled")
    names = [item.name for item in session.get_inputs()]
    for start in range(0, len(inputs[0]), samples):
        feed = {name: value[start : start + samples] for name, value in zip(names, inputs, strict=True)}
        yield dict(zip(tensors, session.run(None, feed), strict=True))
