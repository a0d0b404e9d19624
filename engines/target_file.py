"""The self-contained ONNX file that one target's builder takes: functions inlined, weights inside, batch fixed."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.inliner

from exporter.encoding_functions import DOMAIN
from jetson.errors import CoopexportError, one_line

# ONNX Runtime 1.10 (JetPack 4.6's Python) reads IR version 8 and no newer.
_IR_VERSION = 8
_STANDARD_DOMAINS = ("", "ai.onnx")


def target_file(model: onnx.ModelProto, batch: int, origin: str) -> onnx.ModelProto:
    """Return `model` (its weights loaded) as a self-contained file for a builder.

    `batch`: fixed size of the first dimension. `origin` names the model in messages. Raises CoopexportError naming
    every operator of a foreign domain, or the input or output whose size cannot be fixed.
    """
    # TensorRT looks functions up by name alone and accepts a uint8 output only from the main graph.
    inlined = onnx.inliner.inline_local_functions(model)
    _refuse_foreign_operators(inlined, origin)
    opsets = [item for item in inlined.opset_import if item.domain in _STANDARD_DOMAINS]
    del inlined.opset_import[:]
    inlined.opset_import.extend(opsets)
    inlined.ir_version = min(inlined.ir_version, _IR_VERSION)
    for value in (*inlined.graph.input, *inlined.graph.output):
        _fix_sizes(value, batch, origin)
    del inlined.graph.value_info[:]  # they still carry the dynamic batch
    try:
        onnx.checker.check_model(inlined)
    except onnx.checker.ValidationError as error:
        raise CoopexportError(f"{origin} is no valid ONNX graph: {one_line(error)[:300]}") from None
    return inlined


def _fix_sizes(value: onnx.ValueInfoProto, batch: int, origin: str) -> None:
    """Set the first dimension of a graph input or output; refuse what would not have one known size then."""
    dimensions = value.type.tensor_type.shape.dim
    if not dimensions or any(dimension.dim_value < 1 for dimension in dimensions[1:]):
        raise CoopexportError(f"{origin}: '{value.name}' has no fixed size behind its batch dimension; export it so")
    if dimensions[0].dim_value not in (0, batch):
        # Inner nodes may hold the old batch: the engine would be another network, or none.
        raise CoopexportError(
            f"{origin}: '{value.name}' is fixed to batch {dimensions[0].dim_value}, asked for is {batch}; "
            "export it with a dynamic batch"
        )
    dimensions[0].Clear()
    dimensions[0].dim_value = batch


def _refuse_foreign_operators(model: onnx.ModelProto, origin: str) -> None:
    foreign = [
        f"{node.domain}.{node.op_type} ({node.name or node.output[0]})"
        for node in _nodes(model.graph)
        if node.domain not in _STANDARD_DOMAINS
    ]
    if foreign:
        known = f"; {DOMAIN} functions are inlined" if any(DOMAIN in item for item in foreign) else ""
        raise CoopexportError(f"{origin} holds operators that no builder knows: {', '.join(foreign[:5])}{known}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside them (If, Loop)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def describe_values(values: object) -> list[dict[str, object]]:
    """Return name, dtype and shape of graph inputs or outputs, as an engine's identity records them."""
    described = []
    for value in values:  # type: ignore[attr-defined]
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        described.append({"name": value.name, "dtype": dtype, "shape": [dim.dim_value for dim in tensor.shape.dim]})
    return described
