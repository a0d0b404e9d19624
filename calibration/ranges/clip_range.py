"""Clip ranges for features, from calibration data: one pass over the graph for all cuts at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.ranges.clip_methods import METHODS, ClipSettings
from exporter.encoding.specification import ClipRange
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import UnsupportedError

_BATCH = 32
# Values of one tensor that are kept to choose its range by; beyond, an even selection of them.
_KEPT_VALUES = 1 << 21


@dataclass(frozen=True)
class FeatureSample:
    """What calibration data make of one tensor.

    `values`: channels x values, float32, an even selection where there are many; a tensor without positions (N x
    features) has one channel. `minimum` and `maximum`: per channel, of all values. `samples`: how many inputs.
    """

    name: str
    values: NDArray[np.float32]
    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]
    samples: int


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: NDArray[np.float32],
    settings: ClipSettings,
    on_progress: Callable[[int], None] | None = None,
    weights_folder: Path | None = None,
) -> dict[str, ClipRange]:
    """Return the clip range of each tensor of `tensors` over `inputs`; arguments and errors as of its two halves."""
    found = collect(model, tensors, inputs, on_progress, weights_folder)
    return {name: clip_range(sample, settings) for name, sample in found.items()}


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: NDArray[np.float32],
    on_progress: Callable[[int], None] | None = None,
    weights_folder: Path | None = None,
) -> dict[str, FeatureSample]:
    """Return what `inputs` make of each tensor of `tensors`.

    `model`: the whole exported graph; `inputs`: N x ..., float32, preprocessed. `on_progress` is told how many inputs
    are done; `weights_folder`: where external weights of the graph lie. Raises CoopexportError naming the tensor when a
    value is not finite.
    """
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    lowest: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    highest: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    for done, values in _tensor_values(model, tensors, inputs, weights_folder):
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise UnsupportedError(f"tensor '{name}' holds NaN or infinity on the calibration data")
            rows = _by_channel(value)
            lowest[name].append(rows.min(axis=1))
            highest[name].append(rows.max(axis=1))
            found[name].append(_selection(rows, _KEPT_VALUES // len(rows) * len(value) // len(inputs)))
        if on_progress is not None:
            on_progress(done)
    return {
        name: FeatureSample(
            name, np.concatenate(parts, axis=1), np.min(lowest[name], axis=0), np.max(highest[name], axis=0),
            len(inputs),
        )
        for name, parts in found.items()
    }  # fmt: skip


def clip_range(sample: FeatureSample, settings: ClipSettings) -> ClipRange:
    """Return the range of one tensor, or those of its channels.

    Raises CoopexportError naming the tensor when its values are all the same.
    """
    values, minimum, maximum = sample.values, sample.minimum, sample.maximum
    if settings.granularity == "tensor":
        values, minimum, maximum = values.reshape(1, -1), minimum.min(keepdims=True), maximum.max(keepdims=True)
    if (minimum == maximum).all():
        raise UnsupportedError(
            f"tensor '{sample.name}' is {minimum[0]} everywhere on the calibration data: nothing crosses there",
            fix="cut elsewhere",
        )
    low, high = METHODS[settings.method](values, minimum, maximum, settings)
    # So sparse that the method fell among the zeros.
    low, high = (np.where(low < high, chosen, end) for chosen, end in ((low, minimum), (high, maximum)))
    return ClipRange(
        _numbers(low),
        _numbers(high),
        settings.method,
        settings.percentile if settings.method == "percentile" else None,
        sample.samples,
        _numbers(minimum),
        _numbers(maximum),
        settings.bits if settings.method in ("mse", "kl") else None,
    )


def _numbers(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _tensor_values(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: NDArray[np.float32], weights_folder: Path | None
) -> Iterator[tuple[int, Mapping[str, NDArray[np.float32]]]]:
    """Yield the values of `tensors` batch by batch, with the number of inputs done."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    unique = list(dict.fromkeys(tensors))
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in unique)
    session = open_session(watched, "disabled", weights_folder=weights_folder)
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        yield start + len(batch), dict(zip(unique, run(session, [batch]), strict=True))


def _by_channel(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return N x channels x ... as channels x values; without positions everything is one channel."""
    return np.moveaxis(value, 1, 0).reshape(value.shape[1], -1) if value.ndim > 2 else value.reshape(1, -1)


def _selection(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return at most `count` (at least 1) values of each row, evenly spread, always the same ones."""
    length = rows.shape[1]
    stride = max(1, -(-length // max(1, count)))
    while stride < length and math.gcd(stride, length) > 1:
        stride += 1  # or it would meet the same rows and columns again and again
    return rows[:, ::stride].copy()  # a view would keep all of the values in memory
