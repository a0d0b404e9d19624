"""What can be converted in one part of a network, what must not be, and how: alike for float16 and int8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from calibration.precision.activations import largest_magnitudes, magnitude_histograms
from calibration.precision.graph_layers import element_types
from calibration.precision.half_evaluator import rounding_graph
from calibration.precision.half_precision import MAX_HALF, constants_out_of_range, half_ends, to_half
from calibration.precision.int8_graph import quantisable_nodes, to_int8
from calibration.precision.int8_ranges import RangeSettings, int8_ranges
from calibration.precision.network_under_test import Subgraph
from exporter.onnx_graphs.nodes import consumers, producers

# An activation of calibration data stays so many times below half's largest number: other images may reach further.
HALF_HEADROOM = 4.0


@dataclass(frozen=True)
class Conversion:
    """How one part is converted.

    `layers`: of each node (by number) that can be converted. `unfit`: layers that must stay in float32, and why.
    `make`: the part with the given nodes converted; `runnable`: what ONNX Runtime runs to tell what that computes.
    `impossible`: those of them that cannot be converted even to see what it costs. `largest`: of half, the largest
    activation of each layer. `halves`: layers that run in half instead of float32 when they are not converted.
    """

    role: str
    layers: dict[int, str]
    unfit: dict[str, str]
    make: Callable[[Collection[int]], onnx.ModelProto]
    runnable: Callable[[onnx.ModelProto], onnx.ModelProto]
    largest: dict[str, float]
    impossible: frozenset[str] = frozenset()
    halves: frozenset[str] = frozenset()

    @property
    def fit(self) -> tuple[str, ...]:
        """Return the layers that can be converted, in the network's order."""
        return tuple(layer for layer in dict.fromkeys(self.layers.values()) if layer not in self.unfit)

    def converted(self, layers: Collection[str]) -> onnx.ModelProto:
        """Return the part with `layers` converted, and no other."""
        return self.make([number for number, layer in self.layers.items() if layer in layers])


def half_conversion(subgraph: Subgraph, inputs: Sequence[NDArray[Any]]) -> Conversion:
    """Return how `subgraph` runs in float16.

    `inputs`: calibration data as the part takes them. A tensor that comes near half's largest number stays in float32,
    and with it the layers that make and read it. Raises CoopexportError when an activation is not finite in float32.
    """
    model = subgraph.model
    layers = {number: subgraph.layers[number] for number in half_ends(model)}
    unfit = {subgraph.layers[number]: reason for number, reason in constants_out_of_range(model)}
    types, makers, readers = element_types(model), producers(model.graph), consumers(model.graph)
    inputs_of_graph = [value.name for value in model.graph.input]
    tensors = [name for name in (*inputs_of_graph, *makers) if types.get(name) == TensorProto.FLOAT]
    largest: dict[str, float] = {}
    for name, magnitude in largest_magnitudes(model, tensors, inputs).items():
        involved = [*([makers[name]] if name in makers else []), *readers.get(name, [])]
        if name in makers:
            maker = subgraph.layers[makers[name]]
            largest[maker] = max(largest.get(maker, 0.0), magnitude)
        if magnitude * HALF_HEADROOM <= MAX_HALF:
            continue
        source = f"the output of {subgraph.layers[makers[name]]}" if name in makers else f"input '{name}'"
        limit = f"half's {MAX_HALF:.0f}" if magnitude > MAX_HALF else f"a {HALF_HEADROOM:g}th of half's {MAX_HALF:.0f}"
        for number in involved:
            if number in layers:
                unfit.setdefault(subgraph.layers[number], f"{source} reaches {magnitude:.4g}, above {limit}")
    every = frozenset(layers)
    return Conversion(
        subgraph.role, layers, unfit, lambda nodes: to_half(model, every - set(nodes)), rounding_graph, largest
    )  # fmt: skip


def int8_conversion(
    subgraph: Subgraph, inputs: Sequence[NDArray[Any]], settings: RangeSettings, kept_in_half: bool = False
) -> Conversion:
    """Return how `subgraph` runs in int8: its convolutions and matrix products; arguments and errors as
    `half_conversion`.

    `kept_in_half`: of those, layers that stay out of int8 run in float16, where half's range allows it.
    """
    model = subgraph.model
    candidates = quantisable_nodes(model)
    histograms = magnitude_histograms(
        model, list(dict.fromkeys(item.activation for item in candidates.values())), inputs
    )
    ranges = int8_ranges(histograms, settings)
    layers = {number: subgraph.layers[number] for number in candidates}
    unfit = {
        subgraph.layers[number]: "its input is 0 everywhere on the calibration data"
        for number, item in candidates.items()
        if ranges[item.activation] == 0
    }
    halves = frozenset(layers.values()) - set(half_conversion(subgraph, inputs).unfit) if kept_in_half else frozenset()

    def make(nodes: Collection[int]) -> onnx.ModelProto:
        made = to_int8(model, nodes, ranges)
        others = halves - {layers[number] for number in nodes}
        return _others_to_half(subgraph, made, others) if others else made

    return Conversion(
        subgraph.role, layers, unfit, make, rounding_graph if halves else _as_it_is, {}, frozenset(unfit), halves
    )  # fmt: skip


def _as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


def _others_to_half(subgraph: Subgraph, made: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return the int8 form of a part with `layers` in half; nodes are known again by what they make."""
    results = {
        node.output[0]
        for node, layer in zip(subgraph.model.graph.node, subgraph.layers, strict=True)
        if layer in layers
    }
    return to_half(made, [number for number, node in enumerate(made.graph.node) if node.output[0] not in results])
