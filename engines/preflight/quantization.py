"""Which QuantizeLinear and DequantizeLinear TensorRT takes: symmetric int8, and nothing that tools do by default."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from engines.preflight.problems import Problem, problem_at
from exporter.onnx_graphs.nodes import all_nodes, producers

_UINT8_BECOMES_INT8 = "QuantizeLinear to uint8 becomes int8 there without a word; use int8 with zero point 0"


def quantization_problems(model: onnx.ModelProto, elements: Mapping[str, int]) -> list[Problem]:
    """Return the Q/DQ nodes that TensorRT refuses, or takes for something else.

    `elements`: of tensors by name, as `infer_elements` finds them.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = producers(model.graph)
    problems = []
    for node in all_nodes(model.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = node.input[2] if len(node.input) > 2 else ""
        if node.op_type == "QuantizeLinear":
            kind = elements.get(zero or node.output[0], TensorProto.UINT8)
            if kind == TensorProto.UINT8:
                problems.append(problem_at(node, _UINT8_BECOMES_INT8))
        else:
            problems += _against_source(node, elements)
        if zero and zero in makers:
            problems.append(problem_at(node, "the zero point is computed; it must be a constant 0"))
        elif zero in constants and _is_not_zero(constants[zero]):
            problems.append(problem_at(node, "the zero point is not 0; quantise symmetrically"))
    return problems


def _against_source(node: onnx.NodeProto, elements: Mapping[str, int]) -> list[Problem]:
    kind = elements.get(node.input[0])
    if kind == TensorProto.INT32:
        return [problem_at(node, "DequantizeLinear of int32 (a quantised bias) is refused; leave biases in float")]
    if kind == TensorProto.UINT8:
        return [problem_at(node, "DequantizeLinear of uint8 is refused; use int8 with zero point 0")]
    return []


def _is_not_zero(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location != TensorProto.EXTERNAL and bool(np.any(numpy_helper.to_array(tensor)))
