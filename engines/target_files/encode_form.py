"""The encode form that a target can take: where its TensorRT has no uint8 (8.2, 8.4), symbols cross as int32.

Heads put symbols of 1, 2, 4 or 8 bits together into words, four bytes each, and send others one to an int32; tails
take one symbol to an int32. The symbols are the same, bit for bit; what goes over the link is, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.targets.target import Target
from exporter.bundles.bundle import CutTensorRecord
from exporter.bundles.golden import (
    golden_exits,
    golden_head_outputs,
    golden_of_split,
    golden_outputs,
    golden_tail_inputs,
)
from exporter.cutting.encoded_halves import symbols_name
from exporter.encoding.onnx_functions import DOMAIN, Coding, decoding_of, encoding_of
from exporter.encoding.specification import EncodeSpecification, Packing
from exporter.onnx_graphs.nodes import functions_used, tensors_read
from jetson.errors import DamagedFileError
from jetson.wire.feature import symbols_of, tail_input_of, without_uint8
from jetson.wire.packing import pack_bits


@dataclass(frozen=True)
class EncodedPart:
    """A head or a tail in the form that a target can take, and its tensors that cross, encoded so.

    `bundled`: the tensors as the bundle's graphs have them.
    """

    model: onnx.ModelProto
    tensors: tuple[CutTensorRecord, ...]
    bundled: tuple[CutTensorRecord, ...]

    def golden(self, golden: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the bundle's golden data in this form: what leaves this head, or goes into this tail."""
        if self.tensors == self.bundled:
            return dict(golden)
        head_outputs, tail_inputs = [], []
        pairs = zip(self.tensors, self.bundled, golden_head_outputs(golden), golden_tail_inputs(golden), strict=True)
        for tensor, bundled, sent_before, taken_before in pairs:
            if tensor == bundled:
                head_outputs.append(sent_before)
                tail_inputs.append(taken_before)
                continue
            symbols = symbols_of(bundled.feature, sent_before)
            head_outputs.append(pack_bits(symbols, tensor.encoding.bits, tensor.encoding.packing))
            tail_inputs.append(tail_input_of(tensor.feature, symbols))
        known = golden_of_split(head_outputs, tail_inputs, golden_exits(golden), golden_outputs(golden))
        return {**{key: golden[key] for key in golden if key in ("images", "inputs")}, **known}


def encode_form(
    model: onnx.ModelProto, role: Literal["head", "tail"], tensors: Sequence[CutTensorRecord], target: Target
) -> EncodedPart:
    """Return the head or tail of a bundle, its functions not yet inlined, in the form that `target` can take.

    `tensors`: those that cross, as the bundle's manifest names them. The model itself is returned where nothing has to
    change. Raises CoopexportError when the graph does not hold the encoding that `tensors` speak of.
    """
    bundled = tuple(tensors)
    new = tuple(_without_uint8(tensor) for tensor in bundled) if not target.uint8 else bundled
    if new == bundled:
        return EncodedPart(model, bundled, bundled)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for index, (tensor, before) in enumerate(zip(new, bundled, strict=True)):
        if tensor != before:
            _recode(changed, role, tensor, symbols_name(index))
    used = functions_used(changed, changed.graph.node)
    del changed.functions[:]
    changed.functions.extend(used)
    return EncodedPart(changed, new, bundled)


def _without_uint8(tensor: CutTensorRecord) -> CutTensorRecord:
    packing = cast(Packing, without_uint8(tensor.feature).packing)
    return tensor.model_copy(update={"encoding": replace(tensor.encoding, packing=packing)})


def _recode(model: onnx.ModelProto, role: Literal["head", "tail"], tensor: CutTensorRecord, symbols: str) -> None:
    """Put another coding in the place of the one that makes, or reads, `symbols`."""
    place, node = _coding_node(model.graph, role, symbols)
    opset = next(int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx"))
    encoding, shape = tensor.encoding, tensor.shape
    if role == "head":
        coding = encoding_of(encoding, shape, node.input[0], symbols, opset)
        _declare(model.graph.output, symbols, encoding.symbol_shape(shape))
    else:
        coding = decoding_of(encoding, shape, symbols, node.output[0], opset)
        _declare(model.graph.input, symbols, encoding.tail_shape(shape))
    _check_constants(model.graph, node, coding, encoding)
    del model.graph.node[place]
    model.graph.node.insert(place, coding.node)
    if coding.function.name not in {function.name for function in model.functions if function.domain == DOMAIN}:
        model.functions.append(coding.function)


def _coding_node(graph: onnx.GraphProto, role: str, symbols: str) -> tuple[int, onnx.NodeProto]:
    """Return the node of our domain that makes (head) or reads (tail) `symbols`, and its place."""
    for place, node in enumerate(graph.node):
        if node.domain == DOMAIN and symbols in (node.output if role == "head" else tensors_read([node])):
            return place, node
    raise DamagedFileError(
        f"the {role} has no {DOMAIN} node at '{symbols}', which its manifest says is encoded",
        fix="make the bundle again with: coopexport split",
    )


def _check_constants(
    graph: onnx.GraphProto, node: onnx.NodeProto, coding: Coding, encoding: EncodeSpecification
) -> None:
    """Refuse a graph whose ranges are not those of the manifest: symbols would mean something else."""
    there = {tensor.name: tensor for tensor in graph.initializer}
    for constant in coding.constants:
        found = there.get(constant.name)
        if found is None or not np.array_equal(numpy_helper.to_array(found), numpy_helper.to_array(constant)):
            raise DamagedFileError(
                f"the graph's {constant.name} is not what its manifest says of the {encoding.bits}-bit encoding at "
                f"{node.name}",
                fix="make the bundle again with: coopexport split",
            )


def _declare(values: Sequence[onnx.ValueInfoProto], name: str, shape: Sequence[int]) -> None:
    """Declare the graph input or output `name` as int32 of `shape`, its batch dimension as it was."""
    for value in values:
        if value.name == name:
            batch = value.type.tensor_type.shape.dim[0]
            sizes = [batch.dim_param or batch.dim_value or None, *shape]
            value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.INT32, sizes))
