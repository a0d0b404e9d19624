"""How large an exported network is: multiply-accumulates, numbers in its weights, and the width of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto

from exporter.layers.candidates import costs_of_nodes, layer_name
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.nodes import weight_shapes
from exporter.onnx_graphs.tensor_types import tensor_types

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class GraphSize:
    """`macs` per sample; `parameters`: numbers in all weights; `widths`: output channels by layer, in order."""

    macs: int
    parameters: int
    widths: Mapping[str, int]


def size_of(model: onnx.ModelProto) -> GraphSize:
    """Return the size of an exported graph; its weights may lie outside.

    Batch norm is folded in such a graph, so that its statistics are not parameters, and a weight that two layers share
    counts once.
    """
    index, types = index_graph(model), tensor_types(model)
    costs = costs_of_nodes(index, types)
    widths: dict[str, int] = {}
    for node, cost in zip(model.graph.node, costs, strict=True):
        if cost > 0:
            shape = types[node.output[0]].shape
            widths[layer_name(node)] = shape[0] if node.op_type.startswith("Conv") else shape[-1]
    floats = {tensor.name for tensor in model.graph.initializer if tensor.data_type in _FLOATS}
    shapes = weight_shapes(model.graph)
    return GraphSize(sum(costs), sum(prod(shapes[name]) for name in floats if shapes[name]), widths)
