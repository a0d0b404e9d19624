"""Time up to each layer of a whole network: measured where a head ends there, predicted between.

Figure 3 of the 2-step pruning paper (Shi et al. 2019) draws it beside the bytes that would cross at each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.prediction.kernels import Kernel
from benchmarks.prediction.nnls import Floats
from benchmarks.prediction.regression import Fit
from exporter.layers.candidates import Layer


@dataclass(frozen=True)
class LayerTime:
    """Time from the network's input up to a layer, its activation included, and what would cross behind it.

    `ms`: of one call, with what every call takes, without the encoding at a cut. `feature_bytes`: per sample, as the
    graph holds them. `origin`: whether a head that ends there was measured.
    """

    layer: str
    feature_bytes: int
    ms: float
    origin: Literal["measured", "predicted"]


@dataclass(frozen=True)
class MeasuredHead:
    """A head that was measured, encoding included: its kernels and the time of a call."""

    kernels: tuple[Kernel, ...]
    ms: float


def cumulative_times(
    layers: Sequence[Layer],
    ends: Mapping[str, int],
    whole: Sequence[Kernel],
    model: Fit,
    heads: Mapping[str, MeasuredHead],
    whole_ms: float | None = None,
) -> tuple[LayerTime, ...]:
    """Return the time up to each of `layers`, in the order in which the network runs them; it never falls.

    `ends`: number of the node in the whole graph that makes each layer's tensor, by the layer's name. `whole`: the
    kernels of the whole network, and `whole_ms` its measured time. `model`: fitted to cells of the same target,
    precision and batch. `heads`: measured ones by the name of the layer that they end behind.

    From a measured head the predicted time of its encoding is taken off. Measured times that fall along the network
    are replaced by their mean (isotonic regression). Between two measured layers the predicted time is stretched so
    that it meets both.
    """
    order = sorted(layers, key=lambda layer: ends[layer.name])
    call_ms = model.ms(())
    nodes = np.array([kernel.node for kernel in whole], dtype=np.int64)
    own_ms = np.array([model.ms((kernel,)) - call_ms for kernel in whole])
    until = [call_ms + float(own_ms[nodes <= ends[item.name]].sum()) for item in order]
    predicted = np.maximum.accumulate(np.array([call_ms, *until, call_ms + own_ms.sum()]))
    # Anchors by their place: what every call takes comes first, the whole network last.
    measured = {0: call_ms}
    measured |= {
        place: without_encoding_ms(heads[layer.name], model)
        for place, layer in enumerate(order, start=1)
        if layer.name in heads
    }
    if whole_ms is not None:
        measured[len(order) + 1] = whole_ms
    rising = isotonic(np.array(list(measured.values())))
    times_ms = _stretched(predicted, dict(zip(measured, rising.tolist(), strict=True)))
    return tuple(
        LayerTime(layer.name, layer.feature_bytes, time_ms, "measured" if layer.name in heads else "predicted")
        for layer, time_ms in zip(order, times_ms[1:-1], strict=True)
    )


def cumulative_errors(
    layers: Sequence[Layer],
    ends: Mapping[str, int],
    whole: Sequence[Kernel],
    model: Fit,
    heads: Mapping[str, MeasuredHead],
    whole_ms: float | None,
    model_without: Callable[[str], Fit | None],
) -> tuple[float, ...]:
    """Return predicted / measured - 1 of each layer that a measured head ends behind, as if that was not measured.

    `model_without`: of a layer, what was fitted to the cells of all other cuts; None where those are too few: then the
    layer has no error. All else as for `cumulative_times`.
    """
    errors = []
    for name, head in heads.items():
        other, measured_ms = model_without(name), without_encoding_ms(head, model)
        if other is None or other.missing(whole) or measured_ms <= 0:
            continue
        left = {layer: one for layer, one in heads.items() if layer != name}
        times = cumulative_times(layers, ends, whole, other, left, whole_ms)
        errors.append(next(item.ms for item in times if item.layer == name) / measured_ms - 1.0)
    return tuple(errors)


def isotonic(values: Floats) -> Floats:
    """Return the rising sequence with the least squares of differences from `values`: pool adjacent violators.

    Ayer et al., An empirical distribution function for sampling with incomplete information, 1955.
    """
    means: list[float] = []
    counts: list[int] = []
    for value in values:
        means.append(float(value))
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            mean, count = means.pop(), counts.pop()
            means[-1] = (means[-1] * counts[-1] + mean * count) / (counts[-1] + count)
            counts[-1] += count
    return np.repeat(np.array(means, dtype=np.float64), counts)


def without_encoding_ms(head: MeasuredHead, model: Fit) -> float:
    """Return the time of a head without its encoding: that is nothing of the network's."""
    network = [kernel for kernel in head.kernels if kernel.kind != "encoding"]
    encoding_ms = model.ms(head.kernels) - model.ms(network)
    return max(head.ms - encoding_ms, 0.0)


def _stretched(predicted: Floats, anchors_ms: Mapping[int, float]) -> list[float]:
    """Return predicted times, which never fall, moved so that they meet `anchors_ms` at their places."""
    times_ms: list[float] = []
    before = 0
    for place, ms in enumerate(predicted.tolist()):
        if place in anchors_ms:
            before = place
        start, behind = float(predicted[before]), next((other for other in anchors_ms if other > before), None)
        if place == before:
            times_ms.append(anchors_ms[place])
        elif behind is None:
            times_ms.append(anchors_ms[before] + ms - start)
        else:
            whole = float(predicted[behind]) - start
            share = (ms - start) / whole if whole > 0 else 0.0
            times_ms.append(anchors_ms[before] + share * (anchors_ms[behind] - anchors_ms[before]))
    return times_ms
