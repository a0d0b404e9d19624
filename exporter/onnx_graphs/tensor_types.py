"""Type and size of the tensors in a graph: by shape inference at two batch sizes, by running it as a last resort.

Sizes that may depend on the data are never taken from a run: two that agree show nothing of a third.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporter.onnx_graphs.data_sizes import sizes_from_data
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.nodes import copy_without_weights, network_inputs
from exporter.onnx_graphs.random_inputs import random_inputs
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.shape_folding import fold_sizes
from jetson.errors import InputError

# Two sizes tell the batch dimension from one that happens to be as large; not 1, which broadcasts.
_BATCH_SIZES = (2, 3)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True)
class TensorType:
    """Type of a tensor. `shape`: per sample, without the batch dimension where it has one (`has_batch`).

    `element_type`: ONNX's number for the dtype, float32 unless given.
    """

    shape: tuple[int, ...]
    element_type: int = TensorProto.FLOAT
    has_batch: bool = True

    @property
    def dtype(self) -> str:
        """NumPy's name of the dtype, or ml_dtypes' where NumPy has none."""
        return str(helper.tensor_dtype_to_np_dtype(self.element_type).name)

    @property
    def size_bytes(self) -> int:
        """Bytes per sample (of all of it, where it has no batch dimension)."""
        return prod(self.shape) * helper.tensor_dtype_to_np_dtype(self.element_type).itemsize

    @property
    def is_feature(self) -> bool:
        """Tell whether it can be a feature: floating point numbers, so many per sample."""
        return self.has_batch and self.element_type in _FLOATS


def tensor_types(model: onnx.ModelProto, weights_folder: Path | None = None) -> dict[str, TensorType]:
    """Return the type of each tensor whose size is known and, behind the batch dimension, fixed.

    A tensor whose size may depend on the values of the inputs (`sizes_from_data`) has none. `weights_folder`: where
    external weights lie that `model` does not hold; without it a graph with such weights is not run. Raises
    CoopexportError when an input of the network has a size other than the batch that is not fixed.
    """
    inputs = network_inputs(model)
    for value in inputs:
        dimensions = value.type.tensor_type.shape.dim
        loose = [item.dim_param or "?" for item in dimensions[1:] if not item.HasField("dim_value")]
        if loose or not value.type.tensor_type.HasField("shape"):
            raise InputError(
                f"input '{value.name}' has sizes that are not fixed ({', '.join(loose) or 'all'})",
                fix=(
                    "only the batch may vary: export it with fixed sizes, or set them with onnx.tools.update_model_dims"
                ),
            )
    skeleton = copy_without_weights(model)
    del skeleton.graph.value_info[:]  # of an exporter's example, often with its batch size
    fixed = inputs[0].type.tensor_type.shape.dim[:1] if inputs else []
    is_open = any(_is_open(value) for value in inputs)
    sizes = _BATCH_SIZES if is_open else (fixed[0].dim_value if fixed else 0,) * 2
    first = _inferred(_with_batch(skeleton, sizes[0]))
    found = first, _inferred(_with_batch(skeleton, sizes[1])) if is_open else first
    varying = index_graph(model).varying
    types = _merged(found, sizes, varying)
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        if tensor.name in outputs and tensor.data_type != TensorProto.STRING:
            types[tensor.name] = TensorType(tuple(tensor.dims), tensor.data_type, has_batch=False)
    wanted = {name for node in model.graph.node for name in node.output if name} - set(types)
    inferred = {name for name, (_, shape) in first.items() if shape is not None}
    wanted -= inferred
    if wanted:
        wanted -= sizes_from_data(model, inferred).keys()
    is_whole = not _has_external_weights(model)
    if wanted and (is_whole or weights_folder is not None):
        folder = None if is_whole else weights_folder
        runs = [_observed(model, sorted(wanted), size, seed, folder) for seed, size in enumerate(sizes)]
        types.update(_merged(runs, sizes, varying))
    return types


def cut_tensor_value(name: str, item: TensorType, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return what declares a cut tensor as input or output; its batch dimension is that of the network's inputs.

    Where these call theirs differently (images and boxes), it has no name: which of them it is, is not known.
    """
    shape: list[str | int | None] = list(item.shape)
    if item.has_batch:
        leading = [dim for value in network_inputs(model) for dim in value.type.tensor_type.shape.dim[:1]]
        names = {dim.dim_param or dim.dim_value for dim in leading if not dim.HasField("dim_value")}
        names = names or {dim.dim_value for dim in leading[:1]}
        shape.insert(0, (names.pop() or None) if len(names) == 1 else None)
    return helper.make_tensor_value_info(name, item.element_type, shape)


_Found = dict[str, tuple[int, tuple[int, ...] | None]]  # element type and whole shape


def _is_open(value: onnx.ValueInfoProto) -> bool:
    """Tell whether the first dimension of an input is not fixed."""
    dimensions = value.type.tensor_type.shape.dim
    return bool(dimensions) and not dimensions[0].HasField("dim_value")


def _has_external_weights(model: onnx.ModelProto) -> bool:
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer)


def _with_batch(skeleton: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """Return `skeleton` with open first dimensions of its inputs set to `size`; output shapes are forgotten."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(skeleton)
    for value in network_inputs(fixed):
        if _is_open(value):
            value.type.tensor_type.shape.dim[0].dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return fixed


def _inferred(model: onnx.ModelProto) -> _Found:
    """Return element type and shape of what shape inference finds, sizes that the graph computes worked out.

    `model` is changed. No shape where a dimension is unknown.
    """
    found: _Found = {}
    is_going_on = True
    while is_going_on:
        found.update(_inferred_once(model))
        unknown = any(shape is None for _, shape in found.values())
        shapes = {name: shape for name, (_, shape) in found.items() if shape is not None}
        is_going_on = unknown and fold_sizes(model, shapes)
    return found


def _inferred_once(model: onnx.ModelProto) -> _Found:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found: _Found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
            continue
        dimensions = tensor.shape.dim
        known = tensor.HasField("shape") and all(item.HasField("dim_value") for item in dimensions)
        shape = tuple(int(item.dim_value) for item in dimensions) if known else None
        found[value.name] = (tensor.elem_type, shape)
    return found


def _observed(
    model: onnx.ModelProto,
    tensors: list[str],
    size: int,
    seed: int,
    folder: Path | None,
) -> _Found:
    """Return element type and shape by running the graph on drawn inputs; a tensor that is not an array is left out."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    feed = random_inputs(model, size, seed)
    values: list[Any] = open_session(watched, "disabled", weights_folder=folder).run(None, feed)
    return {
        name: (helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(tensors, values, strict=True)
        if isinstance(value, np.ndarray) and value.dtype != object  # text has no size in bytes
    }


def _merged(found: Sequence[_Found], sizes: Sequence[int], varying: Set[str]) -> dict[str, TensorType]:
    """Return types out of what was found twice, at these batch sizes; what has other sizes then has none.

    Where the batch is fixed, constants may happen to begin with the same number: only `varying` tensors have a batch.
    """
    types = {}
    for name, (element_type, first) in found[0].items():
        last = found[1].get(name, (element_type, None))[1]
        if first is None or last is None or len(first) != len(last) or first[1:] != last[1:]:
            continue
        varies = first != last
        if varies and (first[0], last[0]) != tuple(sizes):
            continue
        has_batch = varies or (sizes[0] == sizes[1] and first[:1] == sizes[:1] and name in varying)
        types[name] = TensorType(first[1:] if has_batch else first, element_type, has_batch)
    return types
