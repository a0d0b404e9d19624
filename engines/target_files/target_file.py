"""The self-contained ONNX file that one target's builder takes: functions inlined, weights inside, batch settled."""

from __future__ import annotations

import onnx
import onnx.inliner

from engines.targets.target import Target
from exporter.encoding.onnx_functions import DOMAIN
from exporter.onnx_graphs.nodes import all_nodes, normalise
from jetson.errors import InputError, UnsupportedError, one_line

# ONNX Runtime 1.10 (JetPack 4.6's Python) reads IR version 8 and no newer.
_IR_VERSION = 8
_STANDARD_DOMAINS = ("", "ai.onnx")
_BATCH = "batch"


def target_file(model: onnx.ModelProto, target: Target, batches: tuple[int, int, int], origin: str) -> onnx.ModelProto:
    """Return `model` (its weights loaded) as a self-contained file for the builder of `target`; always the same bytes.

    `batches`: min, opt and max samples at a time; the first dimension is fixed where they are equal, and open
    otherwise. `origin` names the model in messages. Constants become initialisers, since older parsers take bounds and
    scales from nowhere else; nodes out of a function are named after it. Raises CoopexportError naming every operator
    of a foreign domain, the input or output whose size cannot be fixed, or the opset that the target does not read.
    """
    min_batch, opt_batch, max_batch = batches
    if not 1 <= min_batch <= opt_batch <= max_batch:
        raise InputError(
            f"batches {min_batch}, {opt_batch}, {max_batch} are not at least 1 and in the order min, opt, max"
        )
    named = onnx.ModelProto()
    named.CopyFrom(model)
    _name_nodes_of_functions(named)
    # TensorRT looks functions up by name alone and accepts a uint8 output only from the main graph.
    inlined = onnx.inliner.inline_local_functions(named)
    _check_operators(inlined, origin)
    opsets = [item for item in inlined.opset_import if item.domain in _STANDARD_DOMAINS]
    del inlined.opset_import[:]
    inlined.opset_import.extend(opsets)
    _check_opset(opsets, target, origin)
    normalise(inlined)
    inlined.ir_version = min(inlined.ir_version, _IR_VERSION)
    for value in (*inlined.graph.input, *inlined.graph.output):
        _fix_sizes(value, max_batch if min_batch == max_batch else None, origin)
    del inlined.graph.value_info[:]  # they still carry the exporter's batch
    try:
        onnx.checker.check_model(inlined)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{origin} is not a valid ONNX graph: {one_line(error)[:300]}") from None
    return inlined


def _name_nodes_of_functions(model: onnx.ModelProto) -> None:
    """Name the nodes of local functions after function and operator: what a builder says of them names the function."""
    for function in model.functions:
        for number, node in enumerate(all_nodes(function.node)):
            node.name = f"/{function.name}/{node.op_type}_{number}"


def _fix_sizes(value: onnx.ValueInfoProto, batch: int | None, origin: str) -> None:
    """Set the first dimension of a graph input or output (None: open); refuse what would not have known sizes then."""
    dimensions = value.type.tensor_type.shape.dim
    if not dimensions or any(dimension.dim_value < 1 for dimension in dimensions[1:]):
        raise InputError(f"{origin}: '{value.name}' has no fixed size behind its batch dimension", fix="export it so")
    if dimensions[0].dim_value not in (0, batch):
        # Inner nodes may hold the old batch: the engine would be another network, or none.
        raise InputError(
            f"{origin}: '{value.name}' is fixed to batch {dimensions[0].dim_value}; asked for: "
            f"{'more than one size' if batch is None else batch}",
            fix="export it with a dynamic batch",
        )
    dimensions[0].Clear()
    if batch is None:
        dimensions[0].dim_param = _BATCH
    else:
        dimensions[0].dim_value = batch


def _check_opset(opsets: list[onnx.OperatorSetIdProto], target: Target, origin: str) -> None:
    found = max((item.version for item in opsets), default=0)
    if target.opset is not None and found > target.opset:
        raise UnsupportedError(
            f"{origin} is of opset {found}, and {target.name} reads no newer one than {target.opset}",
            fix="export it at opset 13, which every target reads",
        )


def _check_operators(model: onnx.ModelProto, origin: str) -> None:
    foreign = [
        f"{node.domain}.{node.op_type} ({node.name or node.output[0]})"
        for node in all_nodes(model.graph.node)
        if node.domain not in _STANDARD_DOMAINS
    ]
    if foreign:
        known = f"; {DOMAIN} functions are inlined" if any(DOMAIN in item for item in foreign) else ""
        raise UnsupportedError(f"{origin} holds operators that no builder knows: {', '.join(foreign)}{known}")


def describe_values(values: object) -> list[dict[str, object]]:
    """Return name, dtype and shape of graph inputs or outputs, as an identity records them; -1 is an open size."""
    described = []
    for value in values:  # type: ignore[attr-defined]
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = [-1 if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
        described.append({"name": value.name, "dtype": dtype, "shape": shape})
    return described
