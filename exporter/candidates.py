"""Where a network can be cut: every layer with its tensor, bytes and cost, and whether that cut is clean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import onnx

from exporter.onnx_graph import consumers, macs_of, producers, shapes_of, weight_shapes

FLOAT32_BYTES = 4
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = frozenset(
    ("Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Selu", "Softplus", "HardSigmoid", "HardSwish")
)


@dataclass(frozen=True)
class Layer:
    """One layer of the exported graph and the cut behind it.

    `tensor` crosses when the network is cut after this layer: after its batch norm and activation;
    `tensor_before_activation` when it is cut before them, or None. `shape` has no batch dimension;
    `feature_bytes` counts float32. `macs` are per sample, `macs_before` those of everything up to and
    including this layer. `clean`: this one tensor is all that crosses. `dominated`: an earlier clean cut is no
    larger. `aliases`: other layers whose cut is the same.
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
    graph = model.graph
    shapes, weights = shapes_of(model), weight_shapes(graph)
    clean = single_tensor_cuts(graph)
    makers, readers = producers(graph), consumers(graph)
    costs = [macs_of(node, weights, shapes) for node in graph.node]
    names, containers = _names(graph)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    layers: list[Layer] = []
    smallest = prod(shapes.get(graph.input[0].name, (1 << 62,))) * FLOAT32_BYTES
    for name, indices in sorted(groups.items(), key=lambda group: group[1][-1]):
        nodes = [graph.node[index] for index in indices]
        before = nodes[-1].output[0]
        is_followed = any(node.op_type in (*_WEIGHTED, "BatchNormalization") for node in nodes)
        after = after_activation(graph, before, readers) if is_followed else before
        twin = next((i for i, layer in enumerate(layers) if layer.tensor == after), None)
        if twin is not None:
            layers[twin] = replace(layers[twin], aliases=(*layers[twin].aliases, name))
            continue
        if after not in shapes:  # sizes that the graph computes, for a reshape
            continue
        macs, macs_before = sum(costs[index] for index in indices), sum(costs[: makers[after] + 1])
        shape = shapes[after]
        feature_bytes = prod(shape) * FLOAT32_BYTES
        is_clean = after in clean and after not in {value.name for value in graph.output}
        dominated = is_clean and feature_bytes >= smallest
        if is_clean:
            smallest = min(smallest, feature_bytes)
        kind = "+".join(dict.fromkeys(node.op_type for node in nodes))
        layers.append(
            Layer(
                name, kind, after, before if before != after else None, shape, feature_bytes, macs, macs_before,
                is_clean, dominated,
            )
        )  # fmt: skip
    return _with_containers(layers, containers)


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
    modules, each with its whole path (exporter.graph) or, as PyTorch writes it by itself, the end of it.
    """
    parts = node.name.strip("/").split("/")[:-1]
    path = ""
    for part in parts:
        path = part if not path or part.startswith(path + ".") else f"{path}.{part}"
    return path or node.name or node.output[0]


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


def single_tensor_cuts(graph: onnx.GraphProto) -> frozenset[str]:
    """Return every tensor that can be all that crosses a cut, in one sweep over the graph.

    At each place between two nodes the live tensors are those made before and read after (or an output); where
    there is one, it is a cut. Linear in the size of the graph.
    """
    fixed = {tensor.name for tensor in graph.initializer}
    last_use: dict[str, int] = {}
    for name, indices in consumers(graph).items():
        last_use[name] = indices[-1]
    for value in graph.output:
        last_use[value.name] = len(graph.node)
    live = {value.name for value in graph.input if value.name in last_use} - fixed
    cuts = set(live) if len(live) == 1 else set()
    for index, node in enumerate(graph.node):
        live.update(name for name in node.output if last_use.get(name, -1) > index)
        live -= {name for name in node.input if last_use.get(name, -1) <= index}
        if len(live) == 1:
            cuts |= live
    return frozenset(cuts)


def crossing_tensors(graph: onnx.GraphProto, tensor: str) -> list[str]:
    """Return all tensors that cross when the graph is cut right after the node that makes `tensor`."""
    position = producers(graph).get(tensor, -1)
    fixed = {item.name for item in graph.initializer}
    readers = consumers(graph)
    outputs = {value.name for value in graph.output}
    made = [value.name for value in graph.input if value.name not in fixed]
    made += [name for node in graph.node[: position + 1] for name in node.output]
    return [name for name in made if name in outputs or any(reader > position for reader in readers.get(name, []))]
