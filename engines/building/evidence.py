"""What a run on one machine shows of an engine for another: ONNX Runtime computes float16 as its processor does."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import onnx

from engines.targets.target import Target
from exporter.onnx_graphs.nodes import all_nodes
from jetson.engines.machine import Machine

# What macOS and Windows call the architectures that Linux's names are used for here.
_LINUX_NAMES = {"arm64": "aarch64", "amd64": "x86_64"}
# Attributes that hold an element type as a number: Cast, EyeLike and random operators, QuantizeLinear.
_ELEMENT_ATTRIBUTES = ("to", "dtype", "output_dtype")


class Evidence(IntEnum):
    """How much a run shows: nothing, what another architecture computes, or what the target's own does."""

    NONE = 0
    ELSEWHERE = 1
    OWN = 2


def evidence(model: onnx.ModelProto, target: Target, run_on: Machine, here: Machine) -> Evidence:
    """Return what a run of `model` on `run_on` shows of `target`; of one that names no architecture, of `here`.

    Of float16 for a board only a run on the board's own chip shows anything: ONNX Runtime computes it in half where the
    processor has half arithmetic, in float32 elsewhere. Other backends run their engines on the target's GPU or not at
    all.
    """
    if target.backend != "onnxruntime" or (target.chip is not None and run_on.chip == target.chip):
        return Evidence.OWN
    if target.chip is not None and holds_float16(model):
        return Evidence.NONE
    elsewhere = other_architecture(target.architecture or here.architecture, run_on)
    return Evidence.OWN if elsewhere is None else Evidence.ELSEWHERE


def is_own(target: Target, machine: Machine) -> bool:
    """Tell whether `machine` can be what `target` stands for: by its chip, or else by its architecture."""
    if target.chip is not None:
        return machine.chip == target.chip
    return other_architecture(target.architecture, machine) is None


def reason_for_none(machine: Machine, version: str) -> str:
    """Return why a run on `machine` with ONNX Runtime `version`, which passed, counts for nothing."""
    return (
        "not run on the device: it holds float16, which ONNX Runtime computes as the processor does, in half or in "
        f"float32; the golden data agree on {machine.platform} with ONNX Runtime {version}, which shows nothing of the "
        "device"
    )


def other_architecture(wanted: str | None, machine: Machine) -> str | None:
    """Return the architecture of `machine` where it is another than `wanted` ("aarch64"); None where it is the same.

    Nothing is another one than None, which stands for any.
    """
    names = [_LINUX_NAMES.get(name.lower(), name.lower()) for name in (wanted or "", machine.architecture)]
    return None if wanted is None or names[0] == names[1] else machine.architecture


def holds_float16(model: onnx.ModelProto) -> bool:
    """Tell whether any number in `model`, the bodies of If and Loop included, is float16."""
    return onnx.TensorProto.FLOAT16 in _elements(model)


def _elements(model: onnx.ModelProto) -> set[int]:
    """Return the element types that tensors of `model` begin with; all others follow from those."""
    nodes = [*all_nodes(model.graph.node), *(node for one in model.functions for node in all_nodes(one.node))]
    graphs = [model.graph, *(item.g for node in nodes for item in node.attribute if item.HasField("g"))]
    found = {element for graph in graphs for element in _declared(graph)}
    for node in nodes:
        for item in node.attribute:
            found.update(tensor.data_type for tensor in (item.t, *item.tensors) if tensor.data_type)
            if item.name in _ELEMENT_ATTRIBUTES:
                found.add(item.i)
    return found


def _declared(graph: onnx.GraphProto) -> Iterator[int]:
    for tensor in graph.initializer:
        yield tensor.data_type
    for sparse in graph.sparse_initializer:
        yield sparse.values.data_type
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.type.tensor_type.elem_type
