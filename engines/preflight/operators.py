"""Which operators, domains and opsets a target's parser takes: engines/preflight/operators.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import onnx
from onnx import TensorProto

from engines.preflight.problems import Problem, problem_at
from engines.targets.target import Target, numbers_of
from exporter.onnx_graphs.nodes import all_nodes
from jetson.engines.build_settings import BuildSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STANDARD_DOMAINS = ("", "ai.onnx")
# The oldest TensorRT that a desktop may have installed, and the newest whose list is known.
_DESKTOP, _NEWEST = (10, 3), (10, 15)
_FIRST_WITH_CONVOLUTIONS_IN_1D = (8, 5)
# Whose kernels TensorRT-RTX has at SM 7.5 in float16 and int8 only.
_MATRIX_PRODUCTS = ("Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")
_TURING = "7.5"


def tensorrt_version(target: Target) -> tuple[int, ...]:
    """Return the TensorRT whose parser the target has; of TensorRT-RTX the one that it has in common."""
    if target.backend == "tensorrt-rtx":
        return _NEWEST
    return _DESKTOP if target.tensorrt is None else numbers_of(target.tensorrt)


def opset_problems(model: onnx.ModelProto, target: Target) -> list[Problem]:
    """Refuse an opset that the target does not read: some parsers take it without a word, and guess."""
    found = max((item.version for item in model.opset_import if item.domain in STANDARD_DOMAINS), default=0)
    if target.opset is None or found <= target.opset:
        return []
    return [Problem(f"the graph is of opset {found}, and {target.opset} is the newest that is read there")]


def foreign_problems(model: onnx.ModelProto) -> list[Problem]:
    """Refuse operators of other domains and functions: TensorRT takes them for standard ones of the same name."""
    functions = [Problem(f"function {item.domain}.{item.name} is not inlined") for item in model.functions]
    return functions + [
        problem_at(node, f"{node.domain}.{node.op_type} is not a standard ONNX operator")
        for node in all_nodes(model.graph.node)
        if node.domain not in STANDARD_DOMAINS
    ]


def operator_problems(model: onnx.ModelProto, target: Target) -> list[Problem]:
    """Refuse operators that this TensorRT does not have; warn of those of which it is not known."""
    version = tensorrt_version(target)
    nodes = [node for node in all_nodes(model.graph.node) if node.domain in STANDARD_DOMAINS]
    problems = [problem for node in nodes if (problem := _operator_problem(node, target, version)) is not None]
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return problems + [problem for node in nodes for problem in _restrictions(node, ranks, version)]


def gemm_problems(
    model: onnx.ModelProto, elements: Mapping[str, int], target: Target, settings: BuildSettings
) -> list[Problem]:
    """Refuse float32 matrix products for TensorRT-RTX at SM 7.5, whose builder has none; half and int8 it has."""
    capabilities = settings.compute_capabilities or (target.compute_capability,)
    if target.backend != "tensorrt-rtx" or _TURING not in capabilities:
        return []
    wide = (TensorProto.FLOAT, TensorProto.BFLOAT16)
    advice = "use --precision fp16"
    if settings.precision == "int8":
        advice += ", or run the layer in it: coopexport precision --precision int8 --keep LAYER --kept-in fp16"
    return [
        problem_at(node, f"TensorRT-RTX has no float32 matrix products at SM 7.5; {advice}")
        for node in all_nodes(model.graph.node)
        if node.op_type in _MATRIX_PRODUCTS
        and elements.get(node.input[0]) in wide
        and (node.op_type != "Einsum" or len(node.input) > 1)
    ]


def _operator_problem(node: onnx.NodeProto, target: Target, version: tuple[int, ...]) -> Problem | None:
    table = _table()
    kind = node.op_type
    is_rtx = target.backend == "tensorrt-rtx"
    if kind in table["always"] or (is_rtx and kind in table["rtx"]["also"]):
        refused = is_rtx and kind in table["rtx"]["without"]
        return problem_at(node, f"TensorRT-RTX does not build {kind}") if refused else None
    if kind in table["never"]:
        return problem_at(node, f"no TensorRT has {kind}")
    if is_rtx and kind in table["rtx"]["without"]:
        return problem_at(node, f"TensorRT-RTX does not build {kind}")
    first = _first_version(kind)
    if first is not None:
        if version >= first:
            return None
        said = ".".join(map(str, first))
        return problem_at(node, f"{kind} is in TensorRT {said} and newer only, and {_name(version)} is there")
    without, having = _between(kind)
    if having is not None and version >= having:
        return None
    if without is not None and version <= without:
        return problem_at(node, f"{kind} is not in {_name(version)}")
    return problem_at(node, f"it is not known whether {_name(version)} has {kind}", refused=False)


def _restrictions(node: onnx.NodeProto, ranks: Mapping[str, int], version: tuple[int, ...]) -> list[Problem]:
    """Return what of an operator is not supported though the operator is."""
    problems = []
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "MaxPool" and len([name for name in node.output if name]) > 1:
        problems.append(problem_at(node, "TensorRT's MaxPool gives no indices"))
    if node.op_type in ("MaxPool", "AveragePool", "LpPool") and set(attributes.get("dilations", _NONE).ints) - {1}:
        problems.append(problem_at(node, "TensorRT's pooling takes no dilations"))
    is_1d = node.op_type in ("Conv", "ConvTranspose") and ranks.get(node.input[1]) == 3
    if is_1d and version < _FIRST_WITH_CONVOLUTIONS_IN_1D:
        problems.append(problem_at(node, f"{_name(version)} has no convolutions in one dimension"))
    return problems


_NONE = onnx.AttributeProto()


def _name(version: tuple[int, ...]) -> str:
    return f"TensorRT {'.'.join(map(str, version))}"


def _first_version(kind: str) -> tuple[int, ...] | None:
    return next((numbers_of(first) for first, kinds in _table()["since"].items() if kind in kinds), None)


def _between(kind: str) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return the last version known not to have `kind`, and the first known to have it."""
    for span, kinds in _table()["between"].items():
        if kind in kinds:
            without, having = span.split()
            return numbers_of(without), numbers_of(having)
    return None, None


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return tomllib.loads(files("engines.preflight").joinpath("operators.toml").read_text(encoding="utf-8"))
