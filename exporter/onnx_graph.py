"""Small facts about ONNX graphs: who makes a tensor, who reads it, how large it is, what a node costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.onnx_session import open_session, run


def normalise(model: onnx.ModelProto) -> None:
    """Turn constant nodes into initialisers and drop Identity nodes that only share them, in place.

    Both hide cuts: a constant looks like a second tensor that crosses, and the exporter shares equal weights
    between layers through Identity nodes.
    """
    graph = model.graph
    initialisers = {tensor.name for tensor in graph.initializer}
    alias: dict[str, str] = {}
    kept = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        tensor = _constant_of(node)
        if tensor is not None:
            graph.initializer.append(tensor)
            initialisers.add(tensor.name)
        elif node.op_type == "Identity" and node.input[0] in initialisers and node.output[0] not in outputs:
            alias[node.output[0]] = alias.get(node.input[0], node.input[0])
            initialisers.add(node.output[0])
        else:
            kept.append(node)
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = alias.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def _constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    values = {"value_float": np.float32, "value_int": np.int64, "value_floats": np.float32, "value_ints": np.int64}
    if attribute.name not in values:
        return None
    array = np.array(onnx.helper.get_attribute_value(attribute), dtype=values[attribute.name])
    return numpy_helper.from_array(array, node.output[0])


def producers(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the index of the node that makes each tensor."""
    return {name: index for index, node in enumerate(graph.node) for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Return the indices of the nodes that read each tensor, inner graphs (If, Loop) included, in graph order."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        for name in tensors_read([node]):
            found[name].append(index)
    return found


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of each float32 tensor without its first (batch) dimension.

    Tensors of other types (sizes that the graph computes) are no features and are left out.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes, unknown = {}, []
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        dimensions = value.type.tensor_type.shape.dim
        rest = dimensions[1:]
        if dimensions and all(dimension.HasField("dim_value") for dimension in rest):
            shapes[value.name] = tuple(int(dimension.dim_value) for dimension in rest)
        else:
            unknown.append(value.name)
    inputs = [value.name for value in model.graph.input]
    if unknown and all(name in shapes for name in inputs):
        shapes.update(_observed_shapes(model, unknown, [shapes[name] for name in inputs]))
    return shapes


def _observed_shapes(
    model: onnx.ModelProto, tensors: list[str], input_shapes: list[tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Return shapes by running the graph: inference gives up on x.view(x.size(0), -1)."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    batches = [value.type.tensor_type.shape.dim[0].dim_value or 2 for value in model.graph.input]
    zeros = [np.zeros((batch, *shape), np.float32) for batch, shape in zip(batches, input_shapes, strict=True)]
    values = run(open_session(watched, "disabled"), zeros)
    return {name: value.shape[1:] for name, value in zip(tensors, values, strict=True) if len(value) == batches[0]}


def macs_of(node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> int:
    """Return the multiply-accumulates of `node` for one sample; 0 for what has no weights.

    `weights`: shape of each initialiser. `shapes`: of each tensor, without the batch dimension.
    """
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or len(node.input) < 2:
        return 0
    weight = weights.get(node.input[1])
    output, inputs = shapes.get(node.output[0]), shapes.get(node.input[0])
    if weight is None or output is None or inputs is None:
        return 0
    if node.op_type == "Conv":  # weight: outputs x inputs/groups x kernel
        return prod(output) * prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight: inputs x outputs/groups x kernel
        return prod(inputs) * prod(weight[1:])
    return prod(weight) * prod(output[:-1])


def weight_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of each initialiser."""
    return {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def tensors_read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of all tensors that `nodes` read, those of inner graphs (If, Loop) included."""
    names: set[str] = set()
    for node in nodes:
        names.update(name for name in node.input if name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                made = {name for inner in attribute.g.node for name in inner.output}
                made |= {item.name for item in (*attribute.g.input, *attribute.g.initializer)}
                names |= tensors_read(attribute.g.node) - made
    return names
