"""What a graph does when it runs, kernel by kernel: known without running it, from the graph's own shapes.

A kernel is what a backend runs at once: an operator with the batch norm and activation behind it (nn-Meter, MobiSys
2021, section 4). Neurosurgeon (ASPLOS 2017, section 3) fits one regression per kind of layer; these are the kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import onnx
from onnx import TensorProto, helper

from exporter.encoding.onnx_functions import DECODE, DOMAIN, ENCODE
from exporter.layers.candidates import behind_node, costs_of_nodes
from exporter.onnx_graphs.index import GraphIndex, index_graph, nodes_in
from exporter.onnx_graphs.nodes import consumers, weight_shapes
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from jetson.errors import UnsupportedError

Kind = Literal[
    "convolution",
    "depthwise convolution",
    "fully connected layer",
    "product of features",
    "pooling layer",
    "elementwise operator",
    "normalisation",
    "movement of data",
    "encoding",
    "decoding",
    "other operator",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

_OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    "convolution": ("Conv", "ConvTranspose"),
    "fully connected layer": ("Gemm", "MatMul"),
    "pooling layer": ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
    "elementwise operator": (
        "Abs", "Add", "BatchNormalization", "Cast", "Clip", "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Gelu",
        "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow",
        "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh",
        "Where",
    ),
    "normalisation": (
        "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization", "LRN",
        "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Softmax",
    ),
    "movement of data": (
        "Concat", "DepthToSpace", "Expand", "Gather", "Pad", "Resize", "Slice", "SpaceToDepth", "Split", "Tile",
        "Transpose", "Upsample",
    ),
}  # fmt: skip
_KIND_OF = {operator: kind for kind, operators in _OPERATORS.items() for operator in operators}
# They give a tensor another shape or name, and touch none of its numbers.
_VIEWS = frozenset(("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
# Blocked kernels take input channels in fours at least; others fall back to slower code.
_CHANNEL_BLOCK = 4


@dataclass(frozen=True)
class Kernel:
    """One kernel's work for a whole batch. `node`: number of its first node in the graph.

    `macs`: multiply-accumulates. `moved_bytes`: features read and written. `weight_bytes`: weights read. `unaligned`: a
    convolution whose input channels (of one group) are not a multiple of 4, the network's input apart.
    """

    kind: Kind
    node: int
    macs: int
    moved_bytes: int
    weight_bytes: int
    unaligned: bool = False


def kernels_of(
    model: onnx.ModelProto, batch: int = 1, types: Mapping[str, TensorType] | None = None
) -> tuple[Kernel, ...]:
    """Return the kernels of a graph in execution order; its weights may lie outside.

    `batch`: samples at a time. `types`: of the tensors inside, for a head or a tail those of its whole network;
    inferred where one is missing. Batch norm and activation right behind a convolution or a fully connected layer
    belong to its kernel; views, and what is computed from constants alone, are none. Raises CoopexportError when the
    size of a feature is not known.
    """
    index = index_graph(model)
    types = _complete(model, types or {})
    costs = costs_of_nodes(index, types)
    readers = consumers(model.graph)
    weights, sizes = weight_shapes(model.graph), _constant_sizes(index, types)
    fused = 0
    kernels = []
    for number, node in enumerate(model.graph.node):
        is_done = (fused | index.constant) >> number & 1
        if is_done or not index.needed >> number & 1 or node.op_type in _VIEWS or _is_about_sizes(node, types):
            continue
        behind = behind_node(model.graph, node, readers)
        inside = _between(index, number, behind)
        fused |= inside
        members = [number, *nodes_in(inside)]
        kind = _kind(node, index, weights)
        macs = costs[number] * batch
        if kind == "product of features":
            macs = _product_macs(node, types) * batch
        kernels.append(
            Kernel(
                kind, number, macs, _moved_bytes(index, members, behind, types, batch),
                sum(sizes.get(name, 0) for member in members for name in model.graph.node[member].input),
                _is_unaligned(node, kind, index, weights),
            )
        )  # fmt: skip
    return tuple(kernels)


def _complete(model: onnx.ModelProto, known: Mapping[str, TensorType]) -> Mapping[str, TensorType]:
    """Return `known` with what the graph declares of its inputs and outputs, or all inferred where one is missing."""
    types = {**known, **_declared(model.graph)}
    made = {name for node in model.graph.node for name in node.output if name}
    return types if made <= types.keys() else tensor_types(model)


def _declared(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """Return the types of inputs and outputs that have an open batch and are fixed behind it."""
    found = {}
    for value in (*graph.input, *graph.output):
        batch, *sizes = value.type.tensor_type.shape.dim or [None]
        if batch is not None and not batch.HasField("dim_value") and all(size.HasField("dim_value") for size in sizes):
            shape = tuple(int(size.dim_value) for size in sizes)
            found[value.name] = TensorType(shape, value.type.tensor_type.elem_type)
    return found


def _kind(node: onnx.NodeProto, index: GraphIndex, weights: Mapping[str, tuple[int, ...]]) -> Kind:
    if node.domain == DOMAIN:
        return "encoding" if node.op_type.startswith(ENCODE) else "decoding" if _is_decoding(node) else "other operator"
    kind = _KIND_OF.get(node.op_type, "other operator")
    if kind == "fully connected layer" and all(name in index.varying for name in node.input[:2]):
        return "product of features"
    if kind == "convolution" and _groups(node) > 1 and weights.get(node.input[1], (0, 0))[1] == 1:
        return "depthwise convolution"
    return kind


def _is_decoding(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith(DECODE)


def _groups(node: onnx.NodeProto) -> int:
    return next((int(item.i) for item in node.attribute if item.name == "group"), 1)


def _between(index: GraphIndex, number: int, behind: str) -> int:
    """Return the nodes between node `number` and the tensor `behind` it: those fused into its kernel."""
    return index.ancestors[index.makers[behind]] & ~index.ancestors[number] if behind in index.makers else 0


def _is_about_sizes(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> bool:
    """Tell whether a node computes sizes for a reshape: it makes nothing that has a batch."""
    made = [types[name] for name in node.output if name in types]
    return bool(made) and not any(item.has_batch for item in made)


def _moved_bytes(
    index: GraphIndex, members: list[int], behind: str, types: Mapping[str, TensorType], batch: int
) -> int:
    """Return the bytes of the features that a kernel reads from outside and of those that leave it."""
    made = {name for member in members for name in index.makes[member]}
    read = frozenset[str]().union(*(index.reads[member] for member in members)) - made
    written = {behind} if len(members) > 1 else made
    total = 0
    for name in (*read, *written):
        if name not in types:
            node = index.model.graph.node[members[0]]
            raise UnsupportedError(
                f"the size of '{name}' at {node.op_type} '{node.name}' is not known, so the time is not predicted",
                fix="measure it: coopexport bench",
            )
        total += types[name].size_bytes * (batch if types[name].has_batch else 1)
    return total


def _constant_sizes(index: GraphIndex, types: Mapping[str, TensorType]) -> dict[str, int]:
    """Return the bytes of each initialiser, and of what is computed from them alone."""
    computed = {name: item.size_bytes for name, item in types.items() if name not in index.varying}
    stored = {
        tensor.name: prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in index.model.graph.initializer
        if tensor.data_type != TensorProto.STRING
    }
    return {**computed, **stored}


def _is_unaligned(node: onnx.NodeProto, kind: Kind, index: GraphIndex, weights: Mapping[str, tuple[int, ...]]) -> bool:
    if kind != "convolution" or node.input[0] in index.inputs:
        return False
    shape = weights.get(node.input[1], ())
    channels = shape[0] // _groups(node) if node.op_type == "ConvTranspose" else shape[1] if len(shape) > 1 else 0
    return channels % _CHANNEL_BLOCK != 0


def _product_macs(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> int:
    """Return the multiply-accumulates of a MatMul of two features, per sample."""
    left, made = types.get(node.input[0]), types.get(node.output[0])
    return 0 if left is None or made is None or not left.shape else prod(made.shape) * left.shape[-1]
