"""Any ONNX file as the network to cut: read, checked and brought into the plain form, its weights where they are."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from exporter.onnx_graphs.nodes import normalise
from exporter.onnx_graphs.weight_store import inline_small_weights
from jetson.errors import DamagedFileError, InputError, one_line


def read_graph(path: Path) -> onnx.ModelProto:
    """Return the graph of an ONNX file in the plain form (`normalise`); large external weights are not read.

    Raises CoopexportError when there is no such file, or it is not an ONNX graph with at least one input and output.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", path=path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise DamagedFileError(f"{path} is not an ONNX file: {one_line(error)[:200]}", path=path) from None
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} is not an ONNX file that holds a network: it has no nodes or no outputs", path=path)
    names = [name for node in model.graph.node for name in node.output if name]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DamagedFileError(f"{path} is not a valid ONNX graph: two nodes make '{twice}'", path=path)
    inline_small_weights(model, path.parent)
    normalise(model)
    return model
