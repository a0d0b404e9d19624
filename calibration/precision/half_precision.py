"""A graph in float16: weights and activations in half, casts at its borders, some nodes kept in float32.

Strongly typed, as TensorRT 10 and newer want it: no node reads half and float where its operator takes one type.
Inputs and outputs stay as they are, and so do operators of foreign domains: FeatureEncode and FeatureDecode run in
float32, so that symbols do not move more than the feature does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_layers import STANDARD_DOMAINS, element_types, opset_of
from exporter.onnx_graphs.nodes import rename_reads, tensors_read

MAX_HALF = 65504.0
_HALF, _FLOAT = ".half", ".float"
# Their output's dtype is an attribute's, or they are what precision is made of.
_UNTOUCHED = frozenset(("Cast", "Constant", "QuantizeLinear", "DequantizeLinear"))


@dataclass(frozen=True)
class HalfEnds:
    """Which inputs and outputs of a node (by position) become half when the node does."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def to_half(model: onnx.ModelProto, keep: Collection[int] = ()) -> onnx.ModelProto:
    """Return `model` in float16, except for the nodes `keep` (by number) and those that cannot be.

    `model`: weights inside, IR version 4 or newer; it is not changed. Weights beyond half's range become infinite:
    keep their nodes (`constants_out_of_range`).
    """
    ends = {number: item for number, item in half_ends(model).items() if number not in keep}
    fixed = {tensor.name: tensor for tensor in model.graph.initializer}
    halves = {model.graph.node[number].output[place] for number, item in ends.items() for place in item.outputs}
    outputs = {value.name for value in model.graph.output}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    wanted: dict[str, str] = {}  # tensor: its form in the other precision, read somewhere
    read_as_half: set[str] = set()
    for number, node in enumerate(graph.node):
        if number in ends:
            for place in ends[number].inputs:
                name = node.input[place]
                if name in fixed:
                    read_as_half.add(name)
                    node.input[place] = name + _HALF
                elif name not in halves:
                    wanted[name] = node.input[place] = name + _HALF
                elif name in outputs:
                    node.input[place] = name + _HALF
            for place in ends[number].outputs:
                if node.output[place] in outputs:  # the name belongs to the float32 output
                    wanted[node.output[place] + _HALF] = node.output[place]
                    node.output[place] += _HALF
        else:
            renamed = {name: name + _FLOAT for name in tensors_read([node]) & halves - outputs}
            wanted |= renamed
            rename_reads([node], renamed)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(_with_casts([value.name for value in graph.input], nodes, wanted, halves))
    _convert_constants(graph, read_as_half)
    del graph.value_info[:]  # the dtypes in them are no longer true
    return result


def half_ends(model: onnx.ModelProto) -> dict[int, HalfEnds]:
    """Return the nodes that can run in half, by number: float32 in, float32 out, and of an operator that takes half."""
    types, opset = element_types(model), opset_of(model)
    found = ((number, _half_ends(node, types, opset)) for number, node in enumerate(model.graph.node))
    return {number: ends for number, ends in found if ends is not None}


def constants_out_of_range(model: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """Yield the nodes (by number) that half would give a wrong constant, and why: infinite, or 0 where nothing is.

    Single weights that become 0 are not counted: that is rounding, and is measured.
    """
    arrays = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for number, ends in half_ends(model).items():
        for place in ends.inputs:
            tensor = arrays.get(model.graph.node[number].input[place])
            if tensor is None:
                continue
            values = numpy_helper.to_array(tensor)
            largest = float(np.abs(values).max(initial=0.0))
            if largest > MAX_HALF:
                yield number, f"its constant {tensor.name} reaches {largest:.3g}, above half's {MAX_HALF:.0f}"
            elif largest > 0 and not as_half(values).any():
                yield number, f"its constant {tensor.name}, at most {largest:.1e}, would be 0 in half"


def as_half(values: np.ndarray) -> np.ndarray:
    """Return float32 values as float16, infinite beyond its range, without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def _half_ends(node: onnx.NodeProto, types: dict[str, int], opset: int) -> HalfEnds | None:
    has_body = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
    if node.domain not in STANDARD_DOMAINS or node.op_type in _UNTOUCHED or has_body:
        return None
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    takes_half = {
        item.type_param_str for item in schema.type_constraints if "tensor(float16)" in item.allowed_type_strs
    }
    inputs: list[int] = []
    bound: set[str] = set()
    for place, name in enumerate(node.input):
        if name and not types.get(name):
            return None
        if not name or types[name] != TensorProto.FLOAT:
            continue
        kind = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
        if kind == "tensor(float)":  # always float, as the scales of Resize are
            continue
        if kind not in takes_half:
            return None
        inputs.append(place)
        bound.add(kind)
    outputs = []
    for place, name in enumerate(node.output):
        if not name or types.get(name, 0) not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            continue
        # What no input binds takes its dtype from elsewhere, as ConstantOfShape does.
        kind = schema.outputs[min(place, len(schema.outputs) - 1)].type_str
        if not types.get(name) or kind not in bound:
            return None
        outputs.append(place)
    return HalfEnds(tuple(inputs), tuple(outputs)) if inputs else None


def _with_casts(
    inputs: list[str], nodes: list[onnx.NodeProto], wanted: dict[str, str], halves: Collection[str]
) -> Iterator[onnx.NodeProto]:
    """Yield `nodes`, each tensor's cast to its other form right behind where it is made."""
    for name in inputs:
        if name in wanted:
            yield _cast(name, wanted[name], TensorProto.FLOAT16)
    for node in nodes:
        yield node
        for name in node.output:
            if name in wanted:
                is_half = name in halves or name.removesuffix(_HALF) in halves
                yield _cast(name, wanted[name], TensorProto.FLOAT if is_half else TensorProto.FLOAT16)


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"/Cast/{result}", to=kind)


def _convert_constants(graph: onnx.GraphProto, read_as_half: Collection[str]) -> None:
    """Add the half form of constants, and drop the float form of those that nothing reads any more."""
    still_read = tensors_read(graph.node) | {value.name for value in graph.output}
    remaining = []
    for tensor in graph.initializer:
        if tensor.name in read_as_half:
            remaining.append(numpy_helper.from_array(as_half(numpy_helper.to_array(tensor)), tensor.name + _HALF))
        if tensor.name in still_read or tensor.name not in read_as_half:
            remaining.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(remaining)
