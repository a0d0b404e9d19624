"""What a float16 graph computes, with every tensor rounded to half: as a float32 graph that ONNX Runtime runs.

On x86-64 ONNX Runtime computes float16 convolutions in float32, fuses what is behind them, and so lets an activation of
108,000 pass that is infinite in half; on arm64 that depends on the processor. Here each node computes in float32 from
inputs that are half's numbers, and its result is rounded to half (round half to even, infinite from 65,520 on). That is
IEEE 754's result for every operator that is rounded once; in sums (convolutions, matrix products, means) the partial
sums are float32's, as on tensor cores.
A builder that fuses nodes rounds less often, one that sums in half rounds more.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.precision.graph_layers import STANDARD_DOMAINS, element_types

_WIDE, _EXACT = ".wide", ".exact"
# Their results are among the numbers that they read: rounding again would change nothing.
_SELECTING = frozenset(
    ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "GlobalMaxPool", "Relu", "Reshape",
     "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "ReduceMax", "ReduceMin", "Max",
     "Min", "Clip", "Where")
)  # fmt: skip


def rounding_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of float32 arithmetic that gives what `model`, made by `to_half`, gives in half.

    `model`: weights inside; it is not changed. Inputs, outputs, and nodes of foreign domains keep their dtypes. Run it
    with ONNX Runtime's optimisation disabled: no rounding must be fused away.
    """
    types = element_types(model)
    half = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    outputs = {value.name for value in model.graph.output}
    foreign = [node for node in model.graph.node if node.domain not in STANDARD_DOMAINS]
    # Who needs the real dtype: outputs of the graph, and what is not computed here.
    as_they_are = outputs | {name for node in foreign for name in node.input}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes = [_widening(value.name) for value in graph.input if value.name in half]
    for node in graph.node:
        if node.domain in STANDARD_DOMAINS:
            nodes += _widened(node, half, as_they_are)
        else:
            nodes += [node, *(_widening(name) for name in node.output if name in half)]
    del graph.node[:]
    graph.node.extend(nodes)
    constants = []
    for tensor in graph.initializer:
        if tensor.name in half:
            values = numpy_helper.to_array(tensor)
            constants.append(numpy_helper.from_array(values.astype("float32"), tensor.name + _WIDE))
        if tensor.name not in half or tensor.name in as_they_are:
            constants.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]
    return result


def _widened(node: onnx.NodeProto, half: set[str], as_they_are: set[str]) -> Iterator[onnx.NodeProto]:
    """Yield a node on float32 forms of its half inputs, and what rounds its half outputs."""
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for place, name in enumerate(node.input):
        if name in half:
            wide.input[place] = name + _WIDE
    if node.op_type == "Cast":
        to_half = node.output[0] in half
        if to_half or (node.input[0] in half and _target(node) == TensorProto.FLOAT):
            wide.op_type = "Identity"
            del wide.attribute[:]
    is_exact = node.op_type in _SELECTING
    rounded = [(place, name) for place, name in enumerate(node.output) if name in half]
    for place, name in rounded:
        wide.output[place] = name + (_WIDE if is_exact else _EXACT)
    yield wide
    for _, name in rounded:
        if is_exact:
            if name in as_they_are:
                yield _cast(name + _WIDE, name, TensorProto.FLOAT16)
            continue
        yield _cast(name + _EXACT, name, TensorProto.FLOAT16)
        yield _widening(name)


def _target(node: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")


def _widening(name: str) -> onnx.NodeProto:
    return _cast(name, name + _WIDE, TensorProto.FLOAT)


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"/Round/{result}", to=kind)
