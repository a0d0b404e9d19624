"""Clip ranges for features, from calibration data: one pass over the graph for all cuts at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.encoding import ClipRange
from exporter.onnx_session import open_session, run
from jetson.errors import CoopexportError

Method = Literal["minmax", "percentile"]
_BATCH = 32
# Values of one tensor that are kept for its percentile; beyond, an even selection of them.
_KEPT_VALUES = 1 << 21


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: NDArray[np.float32],
    method: Method = "percentile",
    percentile: float = 99.99,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, ClipRange]:
    """Return the clip range of each tensor of `tensors` over `inputs`.

    `model`: the whole exported graph; `inputs`: N x ..., float32, preprocessed. `minmax` takes the extremes;
    `percentile` clips the highest (100 - percentile) % of values, and as many of the lowest where some are negative: a
    feature that ends in ReLU keeps its exact 0. `on_progress` is told how many inputs are done. Raises
    CoopexportError naming the tensor when its values are not finite or all the same.
    """
    if method not in get_args(Method):
        raise CoopexportError(f'clip method "{method}" is unknown; use one of {", ".join(get_args(Method))}')
    if not 50 < percentile <= 100:
        raise CoopexportError(f"percentile {percentile} is not above 50 and at most 100")
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    extremes = dict.fromkeys(tensors, (np.inf, -np.inf))
    for done, values in _tensor_values(model, tensors, inputs):
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise CoopexportError(f"tensor '{name}' holds NaN or infinity on the calibration data")
            low, high = extremes[name]
            extremes[name] = (min(low, float(value.min())), max(high, float(value.max())))
            found[name].append(_selection(value.reshape(-1), _KEPT_VALUES * len(value) // len(inputs)))
        if on_progress is not None:
            on_progress(done)
    return {
        name: _clip_range(name, np.concatenate(parts), extremes[name], method, percentile, len(inputs))
        for name, parts in found.items()
    }


def _tensor_values(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: NDArray[np.float32]
) -> Iterator[tuple[int, Mapping[str, NDArray[np.float32]]]]:
    """Yield the values of `tensors` batch by batch, with the number of inputs done."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    unique = list(dict.fromkeys(tensors))
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in unique)
    session = open_session(watched, "disabled")
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        yield start + len(batch), dict(zip(unique, run(session, [batch]), strict=True))


def _selection(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return at most `count` (at least 1) of `values`, evenly spread, always the same ones."""
    stride = max(1, -(-len(values) // max(1, count)))
    while stride < len(values) and math.gcd(stride, len(values)) > 1:
        stride += 1  # or it would meet the same rows, columns or channels again and again
    return values[::stride].copy()  # a view would keep all of the values in memory


def _clip_range(
    name: str,
    values: NDArray[np.float32],
    extremes: tuple[float, float],
    method: Method,
    percentile: float,
    samples: int,
) -> ClipRange:
    minimum, maximum = extremes
    low, high = minimum, maximum
    if method == "percentile":
        high = float(np.percentile(values, percentile))
        low = float(np.percentile(values, 100 - percentile)) if minimum < 0 else minimum
        if high <= low:  # so sparse that the percentiles fall among the zeros
            low, high = minimum, maximum
    if high <= low:
        raise CoopexportError(
            f"tensor '{name}' is {low} everywhere on the calibration data: nothing crosses there; cut elsewhere"
        )
    kept_percentile = percentile if method == "percentile" else None
    return ClipRange(low, high, method, kept_percentile, samples, minimum, maximum)
