"""Small facts about ONNX graphs: who makes a tensor, who reads it, what a node costs; and their plain form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

# Far more than any shape, axes or scales take that shape inference looks into.
MAX_SIZES_BYTES = 4096
_FIRST_IR_WITH_PLAIN_INITIALISERS = 4
# The fields of a tensor that hold its values, or say where they lie.
TENSOR_VALUES = (
    "raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data", "external_data",
)  # fmt: skip
_Message = TypeVar("_Message", bound=Message)


def normalise(model: onnx.ModelProto) -> None:
    """Turn constant nodes into initialisers and drop Identity nodes that only share them, in place.

    Both hide cuts: a constant looks like a second tensor that crosses, and the exporter shares equal weights
    between layers through Identity nodes. Initialisers that are listed as inputs too are no longer where IR version 3
    wanted that of all; since IR version 4 such an input is one with a default value, and stays.
    """
    graph = model.graph
    initialisers = {tensor.name for tensor in graph.initializer}
    alias: dict[str, str] = {}
    remaining = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        tensor = _constant_of(node)
        if tensor is not None and tensor.name not in outputs:
            graph.initializer.append(tensor)
            initialisers.add(tensor.name)
        elif node.op_type == "Identity" and node.input[0] in initialisers and node.output[0] not in outputs:
            alias[node.output[0]] = alias.get(node.input[0], node.input[0])
            initialisers.add(node.output[0])
        else:
            remaining.append(node)
    rename_reads(remaining, alias)
    del graph.node[:]
    graph.node.extend(remaining)
    if model.ir_version < _FIRST_IR_WITH_PLAIN_INITIALISERS and len(inputs := network_inputs(model)) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
        model.ir_version = _FIRST_IR_WITH_PLAIN_INITIALISERS


def rename_reads(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Let `nodes`, and those in the bodies of If and Loop, read other tensors, in place."""
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in names:
                node.input[index] = names[name]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename_reads(attribute.g.node, names)
                for value in attribute.g.output:  # a body may hand an outer tensor on
                    value.name = names.get(value.name, value.name)


def copy_without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the values of its large initialisers left out: enough to infer shapes from.

    All else is kept, metadata too. Weights are never copied, however many there are.
    """
    skeleton = onnx.ModelProto()
    copy_fields(model, skeleton, but=("graph",))
    copy_fields(model.graph, skeleton.graph, but=("initializer",))
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= MAX_SIZES_BYTES:
            skeleton.graph.initializer.append(tensor)
        else:
            copied = skeleton.graph.initializer.add(data_location=TensorProto.EXTERNAL)
            copy_fields(tensor, copied, but=("data_location", *TENSOR_VALUES))
    return skeleton


def copy_fields(source: _Message, target: _Message, but: Collection[str] = ()) -> None:
    """Add the fields of `source`, those named in `but` left out, to `target`, a message of the same type."""
    for field, value in source.ListFields():
        if field.name in but:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(target, field.name, value)
        elif isinstance(value, Message):
            getattr(target, field.name).MergeFrom(value)
        else:
            getattr(target, field.name).extend(value)


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


def network_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs of `model` that are not initialisers."""
    fixed = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in fixed]


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
                handed_on = {value.name for value in attribute.g.output}
                names |= (tensors_read(attribute.g.node) | handed_on) - made
    return names


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield `nodes` and those in the bodies of If and Loop."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g.node)


def functions_used(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[onnx.FunctionProto]:
    """Return the local functions of `model` that `nodes` call, and those that these call, in its order."""
    functions = {(item.domain, item.name, item.overload): item for item in model.functions}
    found: set[tuple[str, str, str]] = set()
    open_nodes = list(all_nodes(nodes)) if functions else []
    while open_nodes:
        node = open_nodes.pop()
        key = (node.domain, node.op_type, node.overload)
        if key in functions and key not in found:
            found.add(key)
            open_nodes += all_nodes(functions[key].node)
    return [item for key, item in functions.items() if key in found]
