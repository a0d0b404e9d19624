"""The self-contained ONNX file that one target's builder takes: functions inlined, weights inside, batch fixed."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner

from exporter.encoding import DOMAIN
from jetson.errors import CoopexportError

# ONNX Runtime 1.10 (JetPack 4.6's Python) reads IR version 8 and no newer.
_IR_VERSION = 8
_STANDARD_DOMAINS = ("", "ai.onnx")


def target_file(graph: Path, batch: int) -> onnx.ModelProto:
    """Return the model in `graph` (with external weights) as a self-contained file for a builder.

    `batch`: fixed size of the first dimension. Raises CoopexportError naming every operator of a foreign domain.
    """
    # An absolute path: with a relative one some versions of onnx look for weights in the working directory.
    model = onnx.load(str(graph.resolve()))
    # TensorRT looks functions up by name alone and accepts a uint8 output only from the main graph.
    inlined = onnx.inliner.inline_local_functions(model)
    _refuse_foreign_operators(inlined, graph)
    opsets = [item for item in inlined.opset_import if item.domain in _STANDARD_DOMAINS]
    del inlined.opset_import[:]
    inlined.opset_import.extend(opsets)
    inlined.ir_version = min(inlined.ir_version, _IR_VERSION)
    for value in (*inlined.graph.input, *inlined.graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_value = batch
    del inlined.graph.value_info[:]  # they still carry the dynamic batch
    onnx.checker.check_model(inlined)
    return inlined


def _refuse_foreign_operators(model: onnx.ModelProto, graph: Path) -> None:
    foreign = [
        f"{node.domain}.{node.op_type} ({node.name or node.output[0]})"
        for node in model.graph.node
        if node.domain not in _STANDARD_DOMAINS
    ]
    if foreign:
        known = f"; {DOMAIN} functions are inlined" if any(DOMAIN in item for item in foreign) else ""
        raise CoopexportError(f"{graph} holds operators that no builder knows: {', '.join(foreign[:5])}{known}")


def describe_values(values: object) -> list[dict[str, object]]:
    """Return name, dtype and shape of graph inputs or outputs, as an engine's identity records them."""
    described = []
    for value in values:  # type: ignore[attr-defined]
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        described.append({"name": value.name, "dtype": dtype, "shape": [dim.dim_value for dim in tensor.shape.dim]})
    return described
