"""Cut a graph in two at some tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import helper

from exporter.layers.cut_points import CutPlan, cut_tensors_after, describe_cut_tensors, plan_cut
from exporter.onnx_graphs.data_sizes import sizes_from_data
from exporter.onnx_graphs.index import GraphIndex, index_graph, nodes_in
from exporter.onnx_graphs.nodes import copy_fields, functions_used, tensors_read
from exporter.onnx_graphs.tensor_types import TensorType, cut_tensor_value, tensor_types
from jetson.errors import UnsupportedError

# What a part of a graph has only some of, or its own.
_OF_SOME_NODES = (
    "node", "input", "output", "initializer", "sparse_initializer", "value_info", "quantization_annotation",
)  # fmt: skip


@dataclass(frozen=True)
class Halves:
    """Head and tail of a graph.

    The first outputs of `head` are the inputs of `tail`, in the same order and under the same names; further outputs
    of `head` are the network's own, which it makes on the way (early exits). Further inputs of either are those inputs
    of the network that it reads and that have a default value, an initialiser of the same name.
    """

    head: onnx.ModelProto
    tail: onnx.ModelProto


def cut(
    model: onnx.ModelProto | GraphIndex, tensors: Sequence[str], types: Mapping[str, TensorType] | None = None
) -> Halves:
    """Return the halves of a graph before and behind `tensors`, nothing encoded.

    `model`: the whole graph, or its index where it is cut many times; `types`: of `tensors` at least, found by shape
    inference without it. Tensors cross in the order of the graph. One that is an input of the network passes through
    the head, and is called `NAME/crossing` between the halves. External weights stay where they are. Both halves
    keep the metadata of the whole.

    Raises CoopexportError as `plan_clean_cut` does.
    """
    index = model if isinstance(model, GraphIndex) else index_graph(model)
    whole = index.model
    known = tensor_types(whole) if types is None else types
    plan = plan_clean_cut(index, tensors, known)
    names = _names_of_inputs(index, plan)
    cut_tensor = [_cut_value(name, names.get(name, name), known[name], whole) for name in plan.cut_tensors]
    outputs = {value.name: value for value in whole.graph.output}
    exits = [outputs[name] for name in plan.head_outputs if name not in plan.cut_tensors]
    inputs = [value for value in whole.graph.input if value.name in index.inputs]
    renamed = [helper.make_node("Identity", [name], [new], name=f"/{new}") for name, new in names.items()]
    received = [helper.make_node("Identity", [new], [name], name=f"/{new}") for name, new in names.items()]
    nodes = whole.graph.node
    head = [*(nodes[number] for number in nodes_in(plan.head)), *renamed]
    tail = [*received, *(nodes[number] for number in nodes_in(index.behind(plan.head)))]
    return Halves(
        _half(whole, head, inputs, [*cut_tensor, *exits]),
        _half(whole, tail, cut_tensor, [outputs[name] for name in plan.tail_outputs]),
    )


def plan_clean_cut(index: GraphIndex, tensors: Sequence[str], types: Mapping[str, TensorType]) -> CutPlan:
    """Return how a graph falls apart at `tensors`, which must be all that crosses; `types`: of these at least.

    Raises CoopexportError when something else crosses, naming all that does, its bytes and the nearest clean cuts;
    when a tensor is unknown, constant, not read behind the cut, or of no fixed size; and when nothing is left to cut.
    """
    plan = plan_cut(index, tensors)
    where = f"cannot cut at {', '.join(tensors)}"
    missing = set(plan.cut_tensors) - set(tensors)
    if missing:
        known = tensor_types(index.model) if missing - set(types) else types
        raise UnsupportedError(f"{where}: {_describe_missing(index, tensors, plan, known)}", layer=where)
    unread = [name for name in tensors if name not in plan.cut_tensors]
    if unread:
        raise UnsupportedError(f"{where}: nothing behind the cut reads {', '.join(unread)}", layer=where)
    unsized = [name for name in plan.cut_tensors if name not in types]
    causes = sizes_from_data(index.model, types.keys()) if unsized else {}
    for name in unsized:
        if name in causes:
            raise UnsupportedError(
                f"{where}: {name} would cross, whose size may depend on the data (through {causes[name]})",
                layer=where,
                fix="only tensors of a fixed size can cross: cut before it",
            )
    if unsized:
        raise UnsupportedError(
            f"{where}: {', '.join(unsized)} would cross; only tensors can that hold numbers and have a fixed size",
            layer=where,
        )
    return plan


def _names_of_inputs(index: GraphIndex, plan: CutPlan) -> dict[str, str]:
    """Return what the network's inputs that cross are called between the halves: a name that no tensor has."""
    names = {}
    for name in plan.cut_tensors:
        if name in index.inputs:
            other = f"{name}/crossing"
            while other in index.makers or other in index.inputs:
                other += "_"
            names[name] = other
    return names


def _cut_value(name: str, new: str, item: TensorType, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return what declares the cut tensor `name`, called `new`, with the words that `model` has about it."""
    value = cut_tensor_value(new, item, model)
    for other in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        if other.name == name:
            copy_fields(other, value, but=("name", "type"))
            break
    return value


def _describe_missing(index: GraphIndex, tensors: Sequence[str], plan: CutPlan, types: Mapping[str, TensorType]) -> str:
    if len(tensors) == 1:
        return describe_cut_tensors(cut_tensors_after(index, tensors[0], types), types)
    sizes = ((name, types[name].size_bytes if name in types else None) for name in plan.cut_tensors)
    last = max((name for name in tensors if name in index.makers), key=index.makers.__getitem__)
    nearest = cut_tensors_after(index, last, types)
    return describe_cut_tensors(replace(nearest, tensors=tuple(sizes)), types)


def _half(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return a model of some nodes of `model` with the weights, local functions and metadata that belong to them."""
    graph = model.graph
    ends = {value.name for value in (*inputs, *outputs)}
    present = tensors_read(nodes) | ends | {name for node in nodes for name in node.output}
    annotations = [item for item in graph.quantization_annotation if item.tensor_name in present]
    present |= {entry.value for item in annotations for entry in item.quant_parameter_tensor_names}
    part = onnx.ModelProto()
    copy_fields(model, part, but=("graph", "functions", "training_info"))
    part.functions.extend(functions_used(model, nodes))
    copy_fields(graph, part.graph, but=_OF_SOME_NODES)
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in present)
    part.graph.sparse_initializer.extend(item for item in graph.sparse_initializer if item.values.name in present)
    defaults = {tensor.name for tensor in part.graph.initializer}
    part.graph.input.extend([*inputs, *(value for value in graph.input if value.name in defaults)])
    part.graph.output.extend(outputs)
    part.graph.value_info.extend(value for value in graph.value_info if value.name in present - ends)
    part.graph.quantization_annotation.extend(annotations)
    return part
