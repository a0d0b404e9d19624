"""Where a network can be cut: every layer with its tensor, bytes and cost, and whether that cut is clean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from exporter.layers.cut_points import single_tensor_cuts
from exporter.onnx_graphs.index import GraphIndex, index_graph
from exporter.onnx_graphs.nodes import consumers, macs_of, weight_shapes
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types

# Operators whose layer goes on to the activation behind them.
_FOLLOWED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")
_ACTIVATIONS = frozenset(
    ("Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Selu", "Softplus", "HardSigmoid", "HardSwish")
)


@dataclass(frozen=True)
class Layer:
    """One layer of the exported graph and the cut behind it.

    `tensor` crosses when the network is cut after this layer: after its batch norm and activation;
    `tensor_before_activation` when it is cut before them, or None. `shape` has no batch dimension;
    `feature_bytes` counts the feature as the graph holds it (float32). `macs` are per sample, `macs_before` those of
    everything up to and including this layer. `clean`: this one tensor is all that crosses. `dominated`: an earlier
    clean cut is no larger. `aliases`: other layers whose cut is the same.
    """

    name: str
    kind: str
    tensor: str
    tensor_before_activation: str | None
    shape: tuple[int, ...]
    feature_bytes: int
    macs: int
    macs_before: int
    clean: bool
    dominated: bool
    aliases: tuple[str, ...] = ()


def candidates(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Return every layer of `model` in execution order.

    `model`: exported with the module paths in its node names, constants as initialisers. Layers are the
    innermost modules of the PyTorch network; a node outside any of them (a sum of branches, a functional
    activation) is a layer of its own name, and a module around others is an alias of the layer that ends it.
    """
    return layers_of(index_graph(model), tensor_types(model))


def layers_of(index: GraphIndex, types: Mapping[str, TensorType]) -> tuple[Layer, ...]:
    """Return every layer of an indexed graph, as `candidates`; `types`: of its tensors, those that are known."""
    graph = index.model.graph
    clean = frozenset(single_tensor_cuts(index))
    readers = consumers(graph)
    costs = costs_of_nodes(index, types)
    names, containers = _names(graph)
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name, []).append(number)
    layers: list[Layer] = []
    by_tensor: dict[str, int] = {}
    smallest = input_bytes(index, types)
    for name, numbers in sorted(groups.items(), key=lambda group: group[1][-1]):
        nodes = [graph.node[number] for number in numbers]
        before = nodes[-1].output[0]
        is_followed = any(node.op_type in _FOLLOWED for node in nodes)
        after = after_activation(graph, before, readers) if is_followed else before
        if after in by_tensor:
            twin = layers[by_tensor[after]]
            layers[by_tensor[after]] = replace(twin, aliases=(*twin.aliases, name))
            continue
        if after not in index.varying or after not in types or not types[after].is_feature:
            continue  # a constant, or sizes that the graph computes for a reshape
        macs, macs_before = sum(costs[number] for number in numbers), sum(costs[: index.makers[after] + 1])
        feature_bytes = types[after].size_bytes
        is_clean = after in clean
        dominated = is_clean and feature_bytes >= smallest
        if is_clean:
            smallest = min(smallest, feature_bytes)
        kind = "+".join(dict.fromkeys(node.op_type for node in nodes))
        by_tensor[after] = len(layers)
        layers.append(
            Layer(
                name, kind, after, before if before != after else None, types[after].shape, feature_bytes, macs,
                macs_before, is_clean, dominated,
            )
        )  # fmt: skip
    return _with_containers(layers, containers)


def input_bytes(index: GraphIndex, types: Mapping[str, TensorType]) -> int:
    """Return the bytes of the network's inputs, per sample."""
    return sum(types[name].size_bytes for name in index.inputs)


def costs_of_nodes(index: GraphIndex, types: Mapping[str, TensorType]) -> list[int]:
    """Return the multiply-accumulates of each node for one sample."""
    constants = {name: item.shape for name, item in types.items() if name not in index.varying}
    weights = {**constants, **weight_shapes(index.model.graph)}
    shapes = {name: item.shape for name, item in types.items() if item.is_feature}
    return [macs_of(node, weights, shapes) for node in index.model.graph.node]


def _names(graph: onnx.GraphProto) -> tuple[list[str], dict[str, str]]:
    """Return the layer that each node belongs to, and for each module around others the tensor that leaves it."""
    paths = [layer_name(node) for node in graph.node]
    inside: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        parts = path.split(".")
        for count in range(1, len(parts)):
            inside.setdefault(".".join(parts[:count]), []).append(index)
    names = list(paths)
    readers, outputs = consumers(graph), {value.name for value in graph.output}
    leaving: dict[str, str] = {}
    for container, children in inside.items():
        own = [index for index, path in enumerate(paths) if path == container]
        for index in own:
            names[index] = f"{container}.{graph.node[index].name.rpartition('/')[2]}"
        members = {*children, *own}
        made = [name for index in sorted(members) for name in graph.node[index].output]
        left = [name for name in made if name in outputs or not members.issuperset(readers.get(name, []))]
        if len(left) == 1:
            leaving[container] = left[0]
    return names, leaving


def _with_containers(layers: list[Layer], containers: dict[str, str]) -> tuple[Layer, ...]:
    taken = {name for layer in layers for name in (layer.name, *layer.aliases)}
    return tuple(
        replace(
            layer,
            aliases=(
                *layer.aliases,
                *(
                    name
                    for name, tensor in containers.items()
                    if name not in taken and tensor in (layer.tensor, layer.tensor_before_activation)
                ),
            ),
        )
        for layer in layers
    )


def layer_name(node: onnx.NodeProto) -> str:
    """Return the path of the module that `node` was exported from, as PyTorch writes it.

    The exporter names nodes `/features/features.5/Conv`: the parts between the first and the last are the
    modules, each with its whole path (exporter.layers.export) or, as PyTorch writes it by itself, the end of it.
    """
    parts = node.name.strip("/").split("/")[:-1]
    path = ""
    for part in parts:
        path = part if not path or part.startswith(path + ".") else f"{path}.{part}"
    return path or node.name or node.output[0]


def behind_node(graph: onnx.GraphProto, node: onnx.NodeProto, readers: dict[str, list[int]]) -> str:
    """Return the tensor behind `node`: its first output, or behind its batch norm and activation where it has weights.

    `readers`: `consumers` of the graph.
    """
    made = next(filter(None, node.output), "")
    return after_activation(graph, made, readers) if node.op_type in _FOLLOWED else made


def after_activation(graph: onnx.GraphProto, tensor: str, readers: dict[str, list[int]]) -> str:
    """Follow `tensor` through the batch norm and the activation right behind it, if it has no other reader."""
    while True:
        following = [graph.node[index] for index in readers.get(tensor, [])]
        if len(following) == 1 and following[0].op_type == "BatchNormalization":
            tensor = following[0].output[0]
        elif len(following) == 1 and following[0].op_type in _ACTIVATIONS:
            return str(following[0].output[0])
        elif _is_gate(following, tensor):  # x * sigmoid(x): SiLU and HardSwish at this opset
            return str(following[1].output[0])
        else:
            return tensor


def _is_gate(following: list[onnx.NodeProto], tensor: str) -> bool:
    if len(following) != 2 or following[1].op_type != "Mul":
        return False
    gate = following[0]
    return gate.op_type in ("Sigmoid", "HardSigmoid") and set(following[1].input) == {tensor, gate.output[0]}
