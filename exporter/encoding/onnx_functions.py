"""FeatureEncode and FeatureDecode: the encoding at the cut as ONNX local functions of standard operators.

Each kind and packing has a function of its own name, so that several can stand in one graph. The cast to uint8 comes
last and is not a QuantizeLinear, which TensorRT silently turns into int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.encoding.specification import MAX_FLOAT16, EncodeSpecification, per_channel

DOMAIN = "ai.coopexport"
DOMAIN_VERSION = 1
ENCODE, DECODE = "FeatureEncode", "FeatureDecode"
AttributeValue: TypeAlias = float | list[int] | TensorProto


@dataclass(frozen=True)
class Coding:
    """One end of a cut: the node, the function that it calls, and the constants that it reads."""

    node: onnx.NodeProto
    function: onnx.FunctionProto
    constants: tuple[onnx.TensorProto, ...]


def encoding_of(
    specification: EncodeSpecification, shape: Sequence[int], tensor: str, symbols: str, opset: int
) -> Coding:
    """Return what turns `tensor` (float32, `shape` without the batch dimension) into `symbols` in the head."""
    name = ENCODE + _suffix(specification, shape)
    if specification.kind == "float16":
        return _coding(name, tensor, symbols, {}, _to_float16(), opset)
    numbers = {"low": specification.low, "inverse_step": specification.inverse_step}
    constants = _constants(numbers, symbols, len(shape) + 1)
    attributes: dict[str, AttributeValue] = {"highest_symbol": float(specification.highest_symbol)}
    nodes = _quantise()
    if specification.packing in ("none", "integers"):
        kind = TensorProto.UINT8 if specification.packing == "none" else TensorProto.INT32
        nodes.append(helper.make_node("Cast", ["number"], ["symbols"], to=kind))
    else:
        packing, sizes = _pack(specification, shape)
        nodes += packing
        attributes |= sizes
    return _coding(name, tensor, symbols, attributes, nodes, opset, constants)


def decoding_of(
    specification: EncodeSpecification, shape: Sequence[int], symbols: str, tensor: str, opset: int
) -> Coding:
    """Return what turns `symbols`, as the tail takes them, into `tensor` (float32, `shape` without batch)."""
    name = DECODE + _suffix(specification, shape)
    if specification.kind == "float16":
        nodes = [helper.make_node("Cast", ["symbols"], ["feature"], to=TensorProto.FLOAT)]
        return _coding(name, symbols, tensor, {}, nodes, opset)
    constants = _constants({"step": specification.step, "low": specification.low}, symbols, len(shape) + 1)
    attributes: dict[str, AttributeValue] = {}
    if specification.packing == "bytes" and specification.bits < 8:
        nodes, attributes = _unpack(specification, shape)
    else:
        nodes = [helper.make_node("Cast", ["symbols"], ["number"], to=TensorProto.FLOAT)]
        if specification.packing == "bytes":
            nodes[0].output[0] = "flat"
            nodes += [_integers_attribute("shape"), helper.make_node("Reshape", ["flat", "shape_value"], ["number"])]
            attributes = {"shape": [0, *shape]}
    nodes.append(helper.make_node("Mul", ["number", "step"], ["scaled"]))
    nodes.append(helper.make_node("Add", ["scaled", "low"], ["feature"]))
    return _coding(name, symbols, tensor, attributes, nodes, opset, constants)


def _suffix(specification: EncodeSpecification, shape: Sequence[int]) -> str:
    """Return what is added to a function's name, so that two functions of one name have one body."""
    if specification.kind == "float16":
        return "Float16"
    if specification.packing == "none":
        return ""
    if specification.packing == "integers":
        return "Integers"
    width = "" if specification.bits == 8 else f"{specification.bits}Bit"
    padded = "Padded" if _padding(specification, shape) else ""
    return f"{width}{specification.packing.capitalize()}{padded}"


def _padding(specification: EncodeSpecification, shape: Sequence[int]) -> int:
    """Return how many symbols fill up the last byte or word."""
    per_group = specification.symbols_per_byte * (4 if specification.packing == "words" else 1)
    return -prod(shape) % per_group


def _quantise() -> list[onnx.NodeProto]:
    """Return the nodes that make of `feature` a float `number`, which is the symbol.

    The comparison is what makes NaN 0: whether Clip lets it through depends on the runtime, and a greater NaN there is
    nowhere.
    """
    return [
        _number_attribute("highest_symbol"),
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Sub", ["feature", "low"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "inverse_step"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "zero", "highest_symbol_value"], ["clipped"]),
        helper.make_node("Greater", ["clipped", "zero"], ["is_positive"]),
        helper.make_node("Where", ["is_positive", "clipped", "zero"], ["number"]),
    ]


def _to_float16() -> list[onnx.NodeProto]:
    """Return the nodes of float16: two halves, positive and negative, of which NaN is in neither."""
    return [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Constant", [], ["largest"], value_float=MAX_FLOAT16),
        helper.make_node("Constant", [], ["least"], value_float=-MAX_FLOAT16),
        helper.make_node("Clip", ["feature", "least", "largest"], ["clipped"]),
        helper.make_node("Greater", ["clipped", "zero"], ["is_positive"]),
        helper.make_node("Less", ["clipped", "zero"], ["is_negative"]),
        helper.make_node("Where", ["is_positive", "clipped", "zero"], ["positive"]),
        helper.make_node("Where", ["is_negative", "clipped", "zero"], ["negative"]),
        helper.make_node("Add", ["positive", "negative"], ["number"]),
        helper.make_node("Cast", ["number"], ["symbols"], to=TensorProto.FLOAT16),
    ]


def _pack(
    specification: EncodeSpecification, shape: Sequence[int]
) -> tuple[list[onnx.NodeProto], dict[str, AttributeValue]]:
    """Return the nodes that put the symbols in `number` into bytes or words, and their sizes.

    Sums of powers of two times symbols: no TensorRT takes shifts or bitwise operators.
    """
    padding, per_byte = _padding(specification, shape), specification.symbols_per_byte
    byte_count = (prod(shape) + padding) // per_byte
    nodes = [helper.make_node("Flatten", ["number"], ["flat"], axis=1)]
    sizes: dict[str, AttributeValue] = {"bytes_shape": [0, byte_count, per_byte]}
    if padding:
        # A tensor: ONNX Runtime up to 1.23, the last for Python 3.10, takes no pads out of a list of integers.
        nodes += [_tensor_attribute("pads"), helper.make_node("Pad", ["flat", "pads_value"], ["filled"])]
        sizes["pads"] = numpy_helper.from_array(np.array([0, 0, 0, padding], np.int64))
    nodes += [
        _integers_attribute("bytes_shape"),
        helper.make_node("Reshape", ["filled" if padding else "flat", "bytes_shape_value"], ["grouped"]),
        _constant("weights", np.array([2.0 ** (specification.bits * i) for i in range(per_byte)], np.float32)),
        helper.make_node("Mul", ["grouped", "weights"], ["weighted"]),
        _constant("last", np.array([2], np.int64)),
        helper.make_node("ReduceSum", ["weighted", "last"], ["bytes"], keepdims=0),
    ]
    if specification.packing == "bytes":
        nodes.append(helper.make_node("Cast", ["bytes"], ["symbols"], to=TensorProto.UINT8))
        return nodes, sizes
    sizes["words_shape"] = [0, byte_count // 4, 4]
    nodes += [
        _integers_attribute("words_shape"),
        helper.make_node("Reshape", ["bytes", "words_shape_value"], ["quads"]),
        # From 128 on the highest byte makes a word negative: taken off here, nothing overflows.
        _constant("half", np.array([1 / 128], np.float32)),
        helper.make_node("Mul", ["quads", "half"], ["halves"]),
        helper.make_node("Floor", ["halves"], ["high_bits"]),
        _constant("signs", np.array([0, 0, 0, 256], np.float32)),
        helper.make_node("Mul", ["high_bits", "signs"], ["taken_off"]),
        helper.make_node("Sub", ["quads", "taken_off"], ["signed"]),
        helper.make_node("Cast", ["signed"], ["integers"], to=TensorProto.INT32),
        _constant("places", np.array([1, 1 << 8, 1 << 16, 1 << 24], np.int32)),
        helper.make_node("Mul", ["integers", "places"], ["placed"]),
        # Sums one by one: TensorRT 8 lists ReduceSum for floats only.
        _constant("ones", np.array([1, 1, 1, 1], np.int64)),
        helper.make_node("Split", ["placed", "ones"], ["first", "second", "third", "fourth"], axis=2),
        helper.make_node("Add", ["first", "second"], ["low_half"]),
        helper.make_node("Add", ["third", "fourth"], ["high_half"]),
        helper.make_node("Add", ["low_half", "high_half"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["symbols"]),
    ]
    return nodes, sizes


def _unpack(
    specification: EncodeSpecification, shape: Sequence[int]
) -> tuple[list[onnx.NodeProto], dict[str, AttributeValue]]:
    """Return the nodes that take `symbols`, packed into bytes, apart into `number`, and their sizes.

    A symbol is the byte divided by its place, less what of that is above the symbol.
    """
    count, padding, per_byte = prod(shape), _padding(specification, shape), specification.symbols_per_byte
    base = 2.0**specification.bits
    nodes = [
        helper.make_node("Cast", ["symbols"], ["bytes"], to=TensorProto.FLOAT),
        _integers_attribute("column_shape"),
        helper.make_node("Reshape", ["bytes", "column_shape_value"], ["column"]),
        _constant("places", np.array([base**-i for i in range(per_byte)], np.float32)),
        _constant("places_above", np.array([base ** -(i + 1) for i in range(per_byte)], np.float32)),
        _constant("base", np.array([base], np.float32)),
        helper.make_node("Mul", ["column", "places"], ["divided"]),
        helper.make_node("Floor", ["divided"], ["from_here"]),
        helper.make_node("Mul", ["column", "places_above"], ["divided_above"]),
        helper.make_node("Floor", ["divided_above"], ["above"]),
        helper.make_node("Mul", ["above", "base"], ["above_here"]),
        helper.make_node("Sub", ["from_here", "above_here"], ["unpacked"]),
        _integers_attribute("flat_shape"),
        helper.make_node("Reshape", ["unpacked", "flat_shape_value"], ["flat"]),
    ]
    sizes: dict[str, AttributeValue] = {
        "column_shape": [0, (count + padding) // per_byte, 1],
        "flat_shape": [0, count + padding],
        "shape": [0, *shape],
    }
    if padding:
        sizes["count"] = [count]
        nodes += [
            _constant("start", np.array([0], np.int64)),
            _integers_attribute("count"),
            _constant("axis", np.array([1], np.int64)),
            helper.make_node("Slice", ["flat", "start", "count_value", "axis"], ["used"]),
        ]
    nodes += [
        _integers_attribute("shape"),
        helper.make_node("Reshape", ["used" if padding else "flat", "shape_value"], ["number"]),
    ]
    return nodes, sizes


def _coding(
    function: str,
    reads: str,
    makes: str,
    attributes: dict[str, AttributeValue],
    nodes: Sequence[onnx.NodeProto],
    opset: int,
    constants: Sequence[onnx.TensorProto] = (),
) -> Coding:
    is_encoder = function.startswith(ENCODE)
    first, made = ("feature", "symbols") if is_encoder else ("symbols", "feature")
    symbols = makes if is_encoder else reads
    parameters = [constant.name.rpartition(".")[2] for constant in constants]
    node = helper.make_node(
        function, [reads, *(constant.name for constant in constants)], [makes], name=f"/{function}/{symbols}",
        domain=DOMAIN,
    )  # fmt: skip
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    body = helper.make_function(
        DOMAIN, function, [first, *parameters], [made], nodes, [helper.make_opsetid("", opset)], list(attributes)
    )
    return Coding(node, body, tuple(constants))


def _constants(numbers: dict[str, tuple[float, ...]], symbols: str, dimensions: int) -> tuple[onnx.TensorProto, ...]:
    return tuple(
        numpy_helper.from_array(per_channel(values, dimensions), f"{symbols}.{name}")
        for name, values in numbers.items()
    )


def _constant(name: str, values: NDArray[Any]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name))


def _number_attribute(attribute: str) -> onnx.NodeProto:
    """Return a Constant node that takes its value from the function's attribute of that name."""
    return _from_attribute(attribute, "value_float", onnx.AttributeProto.FLOAT)


def _integers_attribute(attribute: str) -> onnx.NodeProto:
    return _from_attribute(attribute, "value_ints", onnx.AttributeProto.INTS)


def _tensor_attribute(attribute: str) -> onnx.NodeProto:
    return _from_attribute(attribute, "value", onnx.AttributeProto.TENSOR)


def _from_attribute(attribute: str, field: str, kind: onnx.AttributeProto.AttributeType) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], [f"{attribute}_value"])
    node.attribute.append(onnx.AttributeProto(name=field, type=kind, ref_attr_name=attribute))
    return node
