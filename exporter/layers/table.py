"""Everything that can cross: the network's input, every layer, sets of several tensors, the network's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.layers.candidates import Layer, costs_of_nodes, input_bytes
from exporter.layers.cut_points import cut_tensors_after, multi_tensor_cuts, plan_cut, single_tensor_cuts
from exporter.onnx_graphs.index import GraphIndex, nodes_in
from exporter.onnx_graphs.tensor_types import TensorType

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class CutRow:
    """One way to cut: what crosses (`tensors` with their shapes per sample) and what is computed before.

    `layer`: the layer that the cut lies behind, None for the network's input and output and for sets of tensors.
    `size_bytes`: of all tensors per sample, or None where one is not known. `clean`: the named tensor is all that
    crosses (for a set: all of it). `dominated`: an earlier cut of this table is no larger.
    """

    layer: Layer | None
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    size_bytes: int | None
    macs_before: int
    clean: bool
    dominated: bool


def cut_rows(index: GraphIndex, types: Mapping[str, TensorType], layers: Sequence[Layer]) -> tuple[CutRow, ...]:
    """Return the network's input, a cut behind each of `layers`, and the network's output, in that order."""
    cuts = single_tensor_cuts(index)
    total = sum(costs_of_nodes(index, types))
    rows = [CutRow(None, index.inputs, _shapes(index.inputs, types), input_bytes(index, types), 0, True, False)]
    smallest = input_bytes(index, types)
    for layer in layers:
        tensors: tuple[str, ...] = (layer.tensor,)
        size_bytes: int | None = layer.feature_bytes
        clean = layer.clean
        if layer.clean:
            smallest = min(smallest, layer.feature_bytes)
        elif layer.tensor not in index.outputs:
            cut_tensors = cut_tensors_after(index, layer.tensor, types, cuts)
            tensors, size_bytes = tuple(name for name, _ in cut_tensors.tensors), cut_tensors.total_bytes
            clean = tensors == (layer.tensor,)  # nodes that read no inputs hide such cuts from single_tensor_cuts
        shapes = _shapes(tensors, types)
        rows.append(CutRow(layer, tensors, shapes, size_bytes, layer.macs_before, clean, layer.dominated))
    outputs = [name for name in index.outputs if name in types]
    size = sum(types[name].size_bytes for name in outputs) if len(outputs) == len(index.outputs) else None
    dominated = size is not None and size >= smallest
    rows.append(CutRow(None, index.outputs, _shapes(index.outputs, types), size, total, True, dominated))
    return tuple(rows)


def multi_tensor_rows(index: GraphIndex, types: Mapping[str, TensorType], maximum: int) -> tuple[CutRow, ...]:
    """Return the clean cuts of 2 to `maximum` tensors, in the order of the graph.

    Those with a tensor whose size is not fixed are left out: they cannot be written. Dominated: an earlier
    single-tensor cut, an earlier one of these, or the network's input is no larger.
    """
    costs = costs_of_nodes(index, types)
    sizes = [(-1, input_bytes(index, types))]
    sizes += [(index.makers[name], types[name].size_bytes) for name in single_tensor_cuts(index) if name in types]
    rows = []
    for tensors in multi_tensor_cuts(index, maximum):
        if any(name not in types for name in tensors):
            continue
        size = sum(types[name].size_bytes for name in tensors)
        position = max(index.makers[name] for name in tensors if name in index.makers)
        dominated = any(earlier <= position and other <= size for earlier, other in sizes)
        sizes.append((position, size))
        macs = sum(costs[node] for node in nodes_in(plan_cut(index, tensors).head))
        rows.append(CutRow(None, tensors, _shapes(tensors, types), size, macs, True, dominated))
    return tuple(rows)


def _shapes(tensors: Sequence[str], types: Mapping[str, TensorType]) -> tuple[tuple[int, ...], ...]:
    return tuple(types[name].shape for name in tensors if name in types)
