"""Cut a graph in two at one tensor, and put the feature encoding at the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from exporter.candidates import crossing_tensors
from exporter.encoding import (
    DOMAIN,
    DOMAIN_VERSION,
    EncodeSpecification,
    decode_function,
    decode_node,
    encode_function,
    encode_node,
)
from exporter.onnx_graph import producers, tensors_read
from jetson.errors import CoopexportError

SYMBOLS_NAME = "symbols_0"


@dataclass(frozen=True)
class Halves:
    """Head and tail of a graph."""

    head: onnx.ModelProto
    tail: onnx.ModelProto


def cut(model: onnx.ModelProto, tensor: str, shape: Sequence[int]) -> Halves:
    """Return the halves of `model` before and after `tensor`, in float32, nothing encoded.

    `shape`: of the tensor, without the batch dimension. Raises CoopexportError naming the tensors that cross
    when `tensor` is not all that crosses, or is the graph's own input or output.
    """
    graph = model.graph
    makers = producers(graph)
    if tensor not in makers or tensor in {value.name for value in graph.output}:
        raise CoopexportError(f"'{tensor}' is no inner tensor of the graph; nothing is left to cut there")
    head_nodes = _needed(graph, {tensor}, stop=set())
    tail_nodes = _needed(graph, {value.name for value in graph.output}, stop={tensor})
    fixed = {item.name for item in graph.initializer}
    missing = tensors_read(graph.node[i] for i in tail_nodes) - fixed - {tensor}
    missing -= {name for i in tail_nodes for name in graph.node[i].output}
    if missing:
        crossing = ", ".join(crossing_tensors(graph, tensor))
        raise CoopexportError(
            f"cutting at '{tensor}' leaves the tail without {', '.join(sorted(missing))}: {crossing} cross there; "
            "see `coopexport layers` for the clean cuts"
        )
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    boundary = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [batch.dim_param or batch.dim_value, *shape])
    head = _part(model, head_nodes, list(graph.input), [boundary])
    tail = _part(model, tail_nodes, [boundary], list(graph.output))
    return Halves(head, tail)


def _needed(graph: onnx.GraphProto, wanted: set[str], stop: set[str]) -> list[int]:
    """Return, in graph order, the nodes that make `wanted` out of the graph's inputs and `stop`."""
    makers = producers(graph)
    open_names = [name for name in wanted if name not in stop]
    found: set[int] = set()
    while open_names:
        index = makers.get(open_names.pop())
        if index is None or index in found:
            continue
        found.add(index)
        open_names += [name for name in tensors_read([graph.node[index]]) if name not in stop]
    return sorted(found)


def _part(
    model: onnx.ModelProto,
    nodes: Sequence[int],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return a model of some nodes of `model` with the weights that they read."""
    kept = [model.graph.node[index] for index in nodes]
    read = tensors_read(kept)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = helper.make_graph(kept, model.graph.name, list(inputs), list(outputs), weights)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def encode_halves(halves: Halves, specification: EncodeSpecification) -> Halves:
    """Return copies of `halves` with FeatureEncode behind the head and FeatureDecode before the tail.

    With a `float32` specification they are returned as they are.
    """
    if specification.kind == "float32":
        return halves
    head, tail = onnx.ModelProto(), onnx.ModelProto()
    head.CopyFrom(halves.head)
    tail.CopyFrom(halves.tail)
    boundary = head.graph.output[0]
    symbols = onnx.ValueInfoProto()
    symbols.CopyFrom(boundary)
    symbols.name = SYMBOLS_NAME
    symbols.type.tensor_type.elem_type = TensorProto.UINT8
    opset = next(item.version for item in head.opset_import if item.domain in ("", "ai.onnx"))

    head.graph.node.append(encode_node(specification, boundary.name, SYMBOLS_NAME))
    head.functions.append(encode_function(opset))
    del head.graph.output[:]
    head.graph.output.append(symbols)

    tail.graph.node.insert(0, decode_node(specification, SYMBOLS_NAME, boundary.name))
    tail.functions.append(decode_function(opset))
    del tail.graph.input[:]
    tail.graph.input.append(symbols)
    for part in (head, tail):
        part.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
        # Local functions exist since IR version 8; the inlined per-target files go back below it.
        part.ir_version = max(part.ir_version, 8)
        onnx.checker.check_model(part)
    return Halves(head, tail)
