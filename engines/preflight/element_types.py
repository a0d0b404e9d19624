"""The element type of every tensor in a graph, by ONNX's own inference."""

from __future__ import annotations

import onnx

from exporter.onnx_graphs.nodes import copy_without_weights
from jetson.errors import one_line

_NAMES: dict[int, str] = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
_LONGEST = 200


def infer_elements(model: onnx.ModelProto) -> tuple[dict[str, int], str | None]:
    """Return the element type (ONNX's number) of tensors by name, and why they do not fit together, where so.

    Tensors inside the bodies of If and Loop are left out, and those that nothing is known of.
    """
    skeleton = copy_without_weights(model)
    inferred, reason = _inferred(skeleton, strict=True)
    if reason is not None:
        inferred, _ = _inferred(skeleton, strict=False)
    graph = inferred.graph
    elements = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            elements[value.name] = value.type.tensor_type.elem_type
    return elements, reason


def _inferred(model: onnx.ModelProto, *, strict: bool) -> tuple[onnx.ModelProto, str | None]:
    """Return `model` with what inference adds, or as it is with the reason."""
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict), None
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        return model, one_line(error)[:_LONGEST]


def element_name(element: int) -> str:
    """Return what an element type is called: "float" (32 bits), "uint8"."""
    return _NAMES.get(element, f"type {element}")
