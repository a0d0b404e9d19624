"""Which types of numbers a target's parser takes, and where: uint8 stands at the ends of a graph only."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from engines.preflight.element_types import element_name
from engines.preflight.operators import tensorrt_version
from engines.preflight.problems import Problem, problem_at
from engines.targets.target import Target
from exporter.onnx_graphs.nodes import consumers, producers

# From which TensorRT on a type is one at all. What is not listed is in none.
_SINCE: dict[int, tuple[int, int]] = {
    TensorProto.FLOAT: (8, 0),
    TensorProto.FLOAT16: (8, 0),
    TensorProto.INT32: (8, 0),
    TensorProto.INT8: (8, 0),
    TensorProto.BOOL: (8, 0),
    TensorProto.INT64: (8, 0),
    TensorProto.DOUBLE: (8, 0),
    TensorProto.UINT8: (8, 5),
    TensorProto.BFLOAT16: (9, 0),
    TensorProto.FLOAT8E4M3FN: (9, 0),
    TensorProto.INT4: (10, 0),
}
_NEVER = (99, 0)
_FIRST_WITH_INT64 = (9, 0)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
# 8.5 turns uint8 into floats and back only.
_FIRST_WITH_ALL_CASTS = (8, 6)


def dtype_problems(model: onnx.ModelProto, elements: Mapping[str, int], target: Target) -> list[Problem]:
    """Return the types that the target does not have, or would replace by others.

    `elements`: of tensors by name, as `infer_elements` finds them.
    """
    graph, version = model.graph, tensorrt_version(target)
    problems = [
        Problem(reason)
        for value in (*graph.input, *graph.output)
        if (reason := _against_end(value.name, value.type.tensor_type.elem_type, version)) is not None
    ]
    ends = {value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        constants = {tensor.name for tensor in graph.initializer}.intersection(node.input)
        for name in (*sorted(constants), *node.output):
            element = elements.get(name)
            if element is None or name in ends:
                continue
            if version < _SINCE.get(element, _NEVER):
                problems.append(problem_at(node, f"{element_name(element)} is not a type there"))
            elif element == TensorProto.DOUBLE:
                problems.append(problem_at(node, "double becomes float there", refused=False))
    if version >= _SINCE[TensorProto.UINT8]:
        problems += _uint8_problems(graph, elements, version)
    return problems


def _against_end(name: str, element: int, version: tuple[int, ...]) -> str | None:
    """Say why a graph cannot have an input or output `name` of that type."""
    kind = element_name(element)
    if version < _SINCE.get(element, _NEVER):
        return f"'{name}' is {kind}, which is not a type there"
    if element == TensorProto.DOUBLE:
        return f"'{name}' is double, and would become float without a word"
    if element == TensorProto.INT64 and version < _FIRST_WITH_INT64:
        return f"'{name}' is int64, and would become int32 without a word"
    return None


def _uint8_problems(graph: onnx.GraphProto, elements: Mapping[str, int], version: tuple[int, ...]) -> list[Problem]:
    """Refuse uint8 between nodes: an input may be cast or handed on, an output may come out of a cast, nothing else."""
    inputs, outputs = ({value.name for value in values} for values in (graph.input, graph.output))
    readers, makers = consumers(graph), producers(graph)
    fixed = {tensor.name for tensor in graph.initializer}
    problems: dict[Problem, None] = {}
    for name, element in elements.items():
        if element != TensorProto.UINT8 or name in fixed:
            continue
        if name in makers:
            node = graph.node[makers[name]]
            if name not in outputs:
                problems[problem_at(node, "uint8 may only enter or leave a graph, not stand inside")] = None
            elif node.op_type not in ("Cast", "Identity", "QuantizeLinear"):  # the last one is judged elsewhere
                problems[problem_at(node, "uint8 may leave a graph out of a Cast only")] = None
            elif node.op_type == "Cast" and not _is_castable(elements.get(node.input[0]), version):
                problems[problem_at(node, "TensorRT 8.5 casts only floats to uint8")] = None
        if name in inputs or name in makers:
            for node in (graph.node[index] for index in readers.get(name, [])):
                if node.op_type not in ("Cast", "Identity", "DequantizeLinear"):
                    problems[problem_at(node, "uint8 may go into a Cast only")] = None
                elif node.op_type == "Cast" and not _is_castable(elements.get(node.output[0]), version):
                    problems[problem_at(node, "TensorRT 8.5 casts uint8 only to floats")] = None
    return list(problems)


def _is_castable(element: int | None, version: tuple[int, ...]) -> bool:
    return version >= _FIRST_WITH_ALL_CASTS or element in _FLOATS
