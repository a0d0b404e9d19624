"""Sizes that a graph computes for itself (x.view(x.size(0), -1)), worked out where the shapes they come from are known.

Shape inference follows such sizes only a few steps, and everything behind a reshape has no shape then.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporter.onnx_graphs.nodes import MAX_SIZES_BYTES, tensors_read
from exporter.onnx_graphs.session import open_session


def fold_sizes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Replace what `model` computes from `shapes` and small constants alone by its values, in place.

    `shapes`: whole shapes that are known. Returns False when there was nothing to replace.
    """
    graph = model.graph
    constants = {item.name: item for item in graph.initializer if item.data_location != onnx.TensorProto.EXTERNAL}
    outputs = {value.name for value in graph.output}
    values: dict[str, NDArray[np.int64]] = {}
    computed: dict[str, None] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        reads = tensors_read([node])
        if node.op_type == "Shape" and node.input[0] in shapes:
            values[node.output[0]] = _shape_of(node, shapes[node.input[0]])
        elif not reads.isdisjoint(values.keys() | computed.keys()) and reads <= (
            values.keys() | computed.keys() | constants.keys()
        ):
            nodes.append(node)
            computed.update((name, None) for name in node.output if name)
    if not values:
        return False
    found = {**values, **_run(model, nodes, values, constants, list(computed))}
    found = {name: value for name, value in found.items() if value.nbytes <= MAX_SIZES_BYTES}
    remaining = [node for node in graph.node if any(name not in found or name in outputs for name in node.output)]
    if len(remaining) == len(graph.node):
        return False
    left_out = {name for node in graph.node for name in node.output} - {
        name for node in remaining for name in node.output
    }
    del graph.node[:]
    graph.node.extend(remaining)
    graph.initializer.extend(numpy_helper.from_array(found[name], name) for name in left_out if name)
    return True


def _shape_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> NDArray[np.int64]:
    options = {item.name: item.i for item in node.attribute}  # since opset 15 a part may be asked for
    return np.array(shape[options.get("start", 0) : options.get("end")], np.int64)


def _run(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    values: Mapping[str, NDArray[np.int64]],
    constants: Mapping[str, onnx.TensorProto],
    wanted: list[str],
) -> dict[str, NDArray[np.int64]]:
    """Return what `nodes` make out of `values` and `constants`."""
    if not wanted:
        return {}
    read = tensors_read(nodes)
    initialisers = [item for name, item in constants.items() if name in read]
    initialisers += [numpy_helper.from_array(value, name) for name, value in values.items() if name in read]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    graph = helper.make_graph(nodes, "sizes", [], outputs, initialisers)
    part = helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version, functions=list(model.functions)
    )
    return dict(zip(wanted, open_session(part, "disabled").run(None, {}), strict=True))
