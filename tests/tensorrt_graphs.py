"""Small graphs of every kind that engines are built from, and of every kind that TensorRT refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = list[NDArray[Any]]
_RANDOM = np.random.default_rng(6)
_KERNEL = _RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
_CLASSES = _RANDOM.normal(size=(5, 4 * 6 * 6)).astype(np.float32)
node = helper.make_node


def constant(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, list[Any]]],
    outputs: Sequence[tuple[str, int, list[Any]]],
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    values = [[helper.make_tensor_value_info(*end) for end in ends] for ends in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "graph", *values, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def declared(ends: Sequence[onnx.ValueInfoProto]) -> list[dict[str, Any]]:
    """Return inputs or outputs as callers declare them."""
    found = []
    for end in ends:
        tensor = end.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        found.append({"name": end.name, "dtype": dtype, "shape": [size.dim_value for size in tensor.shape.dim]})
    return found


def head(batch: Any = 1, symbols: int = TensorProto.UINT8) -> onnx.ModelProto:
    """A convolution whose features leave as 4-bit symbols."""
    nodes = [
        node("Conv", ["images", "kernel"], ["c"], name="/features/conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="/features/relu"),
        node("Div", ["r", "step"], ["d"], name="/encode/div"),
        node("Round", ["d"], ["n"], name="/encode/round"),
        node("Clip", ["n", "low", "high"], ["k"], name="/encode/clip"),
        node("Cast", ["k"], ["wire"], name="/encode/cast", to=symbols),
    ]
    parts = [constant("kernel", _KERNEL), constant("step", np.float32(0.4))]
    parts += [constant("low", np.float32(0)), constant("high", np.float32(15))]
    shape = [batch, 3, 6, 6]
    ends = [("images", TensorProto.FLOAT, shape)], [("wire", symbols, [batch, 4, 6, 6])]
    return model(nodes, *ends, parts)


def tail(batch: Any = 1, symbols: int = TensorProto.UINT8) -> onnx.ModelProto:
    """Symbols back to features, and classes from them."""
    nodes = [
        node("Cast", ["wire"], ["f"], name="/decode/cast", to=TensorProto.FLOAT),
        node("Mul", ["f", "step"], ["m"], name="/decode/mul"),
        node("Flatten", ["m"], ["v"], name="/flatten", axis=1),
        node("Gemm", ["v", "classes"], ["scores"], name="/classifier", transB=1),
    ]
    parts = [constant("step", np.float32(0.4)), constant("classes", _CLASSES)]
    ends = [("wire", symbols, [batch, 4, 6, 6])], [("scores", TensorProto.FLOAT, [batch, 5])]
    return model(nodes, *ends, parts)


def half(batch: Any = 1) -> onnx.ModelProto:
    """A convolution in half precision, float32 at both ends: precision in the graph."""
    nodes = [
        node("Cast", ["images"], ["h"], name="/cast_in", to=TensorProto.FLOAT16),
        node("Conv", ["h", "kernel"], ["c"], name="/conv", pads=[1, 1, 1, 1]),
        node("Cast", ["c"], ["features"], name="/cast_out", to=TensorProto.FLOAT),
    ]
    ends = [("images", TensorProto.FLOAT, [batch, 3, 6, 6])], [("features", TensorProto.FLOAT, [batch, 4, 6, 6])]
    return model(nodes, *ends, [constant("kernel", _KERNEL.astype(np.float16))])


def quantised(batch: Any = 1, mixed: bool = False) -> onnx.ModelProto:
    """A convolution with explicit Q/DQ, its last layer in half precision where `mixed`."""
    nodes = [
        node("QuantizeLinear", ["images", "s", "z"], ["q"], name="/q"),
        node("DequantizeLinear", ["q", "s", "z"], ["x"], name="/dq"),
        node("DequantizeLinear", ["weights", "ws", "wz"], ["w"], name="/dq_weights", axis=0),
        node("Conv", ["x", "w"], ["c" if mixed else "features"], name="/conv", pads=[1, 1, 1, 1]),
    ]
    if mixed:
        nodes.append(node("Cast", ["c"], ["h"], name="/to_half", to=TensorProto.FLOAT16))
        nodes.append(node("Relu", ["h"], ["r"], name="/relu"))
        nodes.append(node("Cast", ["r"], ["features"], name="/to_float", to=TensorProto.FLOAT))
    scales = np.abs(_KERNEL).max(axis=(1, 2, 3)) / 127
    weights = np.round(_KERNEL / scales[:, None, None, None]).astype(np.int8)
    parts = [constant("s", np.float32(0.05)), constant("z", np.int8(0)), constant("weights", weights)]
    parts += [constant("ws", scales.astype(np.float32)), constant("wz", np.zeros(4, np.int8))]
    ends = [("images", TensorProto.FLOAT, [batch, 3, 6, 6])], [("features", TensorProto.FLOAT, [batch, 4, 6, 6])]
    return model(nodes, *ends, parts)


def images(batch: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(batch, 3, 6, 6)).astype(np.float32)


def expected(graph: onnx.ModelProto, inputs: Arrays) -> Arrays:
    """Return what ONNX Runtime computes, unoptimised and on its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {end.name: array for end, array in zip(session.get_inputs(), inputs, strict=True)})


def _simple(nodes: Sequence[onnx.NodeProto], given: int, out: int, *parts: onnx.TensorProto) -> onnx.ModelProto:
    return model(nodes, [("x", given, [1, 3])], [("y", out, [1, 3])], parts)


def judged_graphs() -> dict[str, onnx.ModelProto]:
    """Return graphs by name that TensorRT takes, or refuses, for reasons worth knowing."""
    f32, f16, u8, i8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8
    i16, i32, i64 = TensorProto.INT16, TensorProto.INT32, TensorProto.INT64
    scale, zero, shift = constant("s", np.float32(0.1)), constant("z", np.uint8(0)), constant("z", np.uint8(128))
    half_row = constant("w", np.ones((1, 3), np.float16))
    to_u8 = node("Cast", ["x"], ["a"], name="to_u8", to=u8)
    twice = [node("Cast", ["x"], ["y"], name="a", to=u8), node("Cast", ["y"], ["f"], name="b", to=f32)]
    both = [("y", u8, [1, 3]), ("f", f32, [1, 3])]
    return {
        "uint8 out": _simple([node("Cast", ["x"], ["y"], to=u8)], f32, u8),
        "uint8 out, cast again": model(twice, [("x", f32, [1, 3])], both),
        "uint8 in": _simple([node("Cast", ["x"], ["y"], to=f32)], u8, f32),
        "uint8 in and out": _simple([node("Identity", ["x"], ["y"])], u8, u8),
        "uint8 between": _simple([to_u8, node("Cast", ["a"], ["y"], to=f32)], f32, f32),
        "uint8, then Identity": _simple([to_u8, node("Identity", ["a"], ["y"])], f32, u8),
        "uint8, then Reshape": _simple([to_u8, node("Reshape", ["a", "n"], ["y"])], f32, u8, constant("n", [1, 3])),
        "uint8 into Mul": _simple([node("Mul", ["x", "x"], ["y"])], u8, u8),
        "Cast to int16": _simple([node("Cast", ["x"], ["y"], name="c", to=i16)], f32, i16),
        "Cast to int8": _simple([node("Cast", ["x"], ["y"], to=i8)], f32, i8),
        "Cast to int64": _simple([node("Cast", ["x"], ["y"], to=i64)], f32, i64),
        "half and float added": _simple([node("Add", ["x", "w"], ["y"])], f32, f32, half_row),
        "half and float joined": _simple([node("Concat", ["x", "w"], ["y"], axis=0)], f32, f32, half_row),
        "half and float multiplied": _simple(
            [node("Gemm", ["x", "w"], ["y"])], f32, f32, constant("w", np.ones((3, 3), np.float16))
        ),
        "half throughout": _simple([node("Add", ["x", "w"], ["y"])], f16, f16, half_row),
        "half bound of Clip": _simple([node("Clip", ["x", "w"], ["y"])], f32, f32, constant("w", np.float16(0))),
        "QuantizeLinear to uint8": _simple([node("QuantizeLinear", ["x", "s", "z"], ["y"])], f32, u8, scale, zero),
        "QuantizeLinear, zero point 128": _simple(
            [node("QuantizeLinear", ["x", "s", "z"], ["y"])], f32, u8, scale, shift
        ),
        "DequantizeLinear of uint8": _simple([node("DequantizeLinear", ["x", "s", "z"], ["y"])], u8, f32, scale, zero),
        "DequantizeLinear of an int32 bias": _simple(
            [node("DequantizeLinear", ["w", "s"], ["b"]), node("Add", ["x", "b"], ["y"])],
            *(f32, f32, scale, constant("w", np.ones((1, 3), np.int32))),
        ),
        "Q/DQ in int8": quantised(),
        "half convolution": half(),
        "head": head(),
        "tail": tail(),
        "BitShift": _simple([node("BitShift", ["x", "x"], ["y"], direction="LEFT")], i32, i32),
        "DynamicQuantizeLinear": model(
            [node("DynamicQuantizeLinear", ["x"], ["a", "s", "z"]), node("Cast", ["a"], ["y"], to=f32)],
            *([("x", f32, [1, 3])], [("y", f32, [1, 3])]),
        ),
        "no such operators": _simple([node("Nope", ["x"], ["a"]), node("Nope2", ["a"], ["y"])], f32, f32),
        "a built-in's name in another domain": _simple([node("Relu", ["x"], ["y"], domain="com.example")], f32, f32),
        "float64": _simple([node("Relu", ["x"], ["y"])], TensorProto.DOUBLE, TensorProto.DOUBLE),
        "declared uint8, is float": _simple([node("Relu", ["x"], ["y"])], f32, u8),
        "bool out": _simple([node("Greater", ["x", "x"], ["y"])], f32, TensorProto.BOOL),
        "strings": _simple([node("Identity", ["x"], ["y"])], TensorProto.STRING, TensorProto.STRING),
        "nothing": onnx.ModelProto(),
    }
