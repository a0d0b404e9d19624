"""Put the feature encoding at the cut: FeatureEncode behind the head, FeatureDecode before the tail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import TensorProto, helper

from exporter.cutting.cut import Halves
from exporter.encoding.onnx_functions import DOMAIN, DOMAIN_VERSION, Coding, decoding_of, encoding_of
from exporter.encoding.specification import EncodeSpecification
from jetson.errors import UnsupportedError

_TYPES = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
}
# Local functions exist since this IR version; the inlined per-target files go back below it.
_IR_VERSION = 8


def symbols_name(index: int) -> str:
    """Return what the tensor that crosses at place `index` of a cut is called once it is encoded."""
    return f"symbols_{index}"


def encode_halves(halves: Halves, specifications: Sequence[EncodeSpecification]) -> Halves:
    """Return `halves` with the encoding at the cut; what crosses is then called symbols_0, symbols_1 and so on.

    `specifications`: one for each tensor that crosses, in the order of the tail's inputs. A tensor in float32 keeps
    its name; where all do, the halves are returned as they are. Raises CoopexportError naming a tensor that is no
    float32 or has a dimension of unknown size.
    """
    cut_tensors = list(halves.tail.graph.input)[: len(specifications)]
    assert len(cut_tensors) == len(specifications)
    if all(item.kind == "float32" for item in specifications):
        return halves
    head, tail = _copied(halves.head), _copied(halves.tail)
    for index, (cut_tensor, specification) in enumerate(zip(cut_tensors, specifications, strict=True)):
        if specification.kind == "float32":
            continue
        shape, opset = _shape(cut_tensor), _opset(head)
        symbols = symbols_name(index)
        encoding = encoding_of(specification, shape, cut_tensor.name, symbols, opset)
        decoding = decoding_of(specification, shape, symbols, cut_tensor.name, opset)
        _add(head, encoding, len(head.graph.node))
        _add(tail, decoding, 0)
        batch = cut_tensor.type.tensor_type.shape.dim[0]
        sizes = [batch.dim_param or batch.dim_value]
        kind = _TYPES[specification.symbol_dtype]
        head_output = helper.make_tensor_value_info(symbols, kind, [*sizes, *specification.symbol_shape(shape)])
        tail_input = helper.make_tensor_value_info(symbols, kind, [*sizes, *specification.tail_shape(shape)])
        _replace(head.graph.output, cut_tensor.name, head_output)
        _replace(tail.graph.input, cut_tensor.name, tail_input)
    for part in (head, tail):
        part.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
        part.ir_version = max(part.ir_version, _IR_VERSION)
    return Halves(head, tail)


def encode_inside(
    model: onnx.ModelProto, tensor: str, shape: Sequence[int], specification: EncodeSpecification
) -> onnx.ModelProto:
    """Return the whole graph with `tensor` (its shape without batch) encoded and decoded before others read it."""
    made = _copied(model)
    symbols, decoded, opset = symbols_name(0), f"{tensor}.decoded", _opset(made)
    for node in made.graph.node:
        for index, name in enumerate(node.input):
            if name == tensor:
                node.input[index] = decoded
    place = next(index for index, node in enumerate(made.graph.node) if tensor in node.output) + 1
    _add(made, encoding_of(specification, shape, tensor, symbols, opset), place)
    _add(made, decoding_of(specification, shape, symbols, decoded, opset), place + 1)
    made.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    made.ir_version = max(made.ir_version, _IR_VERSION)
    return made


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _shape(cut_tensor: onnx.ValueInfoProto) -> tuple[int, ...]:
    kind = cut_tensor.type.tensor_type
    sizes = [dimension.dim_value for dimension in kind.shape.dim[1:]]
    if kind.elem_type != TensorProto.FLOAT or not kind.shape.dim or any(size < 1 for size in sizes):
        raise UnsupportedError(
            f"'{cut_tensor.name}' crosses the cut and is not a float32 tensor of known size: it cannot be encoded",
            fix="cut elsewhere, or send it as it is with --encoding float32",
        )
    return tuple(sizes)


def _opset(model: onnx.ModelProto) -> int:
    return next(int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx"))


def _add(part: onnx.ModelProto, coding: Coding, position: int) -> None:
    """Put a coding into one half: its node at `position`, its constants, and its function once."""
    part.graph.node.insert(position, coding.node)
    part.graph.initializer.extend(coding.constants)
    known = {function.name: function for function in part.functions if function.domain == DOMAIN}
    if coding.function.name not in known:
        part.functions.append(coding.function)
    else:
        assert known[coding.function.name] == coding.function


def _replace(values: Iterable[onnx.ValueInfoProto], name: str, other: onnx.ValueInfoProto) -> None:
    for value in values:
        if value.name == name:
            value.CopyFrom(other)
