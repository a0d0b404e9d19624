"""Which layer each node of a graph belongs to, as the user calls it; and the dtype of every tensor."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from exporter.layers.candidates import Layer, layer_name
from exporter.layers.names import display_name
from exporter.onnx_graphs.nodes import copy_without_weights

STANDARD_DOMAINS = ("", "ai.onnx")


def node_layers(model: onnx.ModelProto, layers: Sequence[Layer] = ()) -> tuple[str, ...]:
    """Return the short name of the layer that each node of the main graph belongs to.

    `layers`: of the whole exported network, so that the activation behind a convolution belongs to it; a node of no
    known layer is called by its module's path.
    """
    known = {name: display_name(tuple(layers), item) for item in layers for name in (item.name, *item.aliases)}
    found = []
    for node in model.graph.node:
        path = layer_name(node)
        # A node that a module around others runs itself is a layer of its own (exporter.layers.candidates).
        own = f"{path}.{node.name.rpartition('/')[2]}"
        found.append(known.get(own) or known.get(path) or path)
    return tuple(found)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return ONNX's number for the dtype of each tensor of the main graph, where inference finds it."""
    inferred = onnx.shape_inference.infer_shapes(copy_without_weights(model)).graph
    types = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that `model` uses."""
    return next(int(item.version) for item in model.opset_import if item.domain in STANDARD_DOMAINS)
