"""Graphs of one operator each, with what it takes to call it: what builders are tried with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T = TensorProto
node = helper.make_node
End = tuple[str, int, Sequence[Any]]
ROW = [1, 4]
IMAGE = [1, 4, 8, 8]


def constant(name: str, values: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def graph_of(
    nodes: list[onnx.NodeProto],
    inputs: Sequence[End],
    outputs: Sequence[End],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 13,
) -> onnx.ModelProto:
    ends = [[helper.make_tensor_value_info(*end) for end in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "one", *ends, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 10)


def one(
    kind: str,
    *constants: Any,
    x: Sequence[Any] = ROW,
    y: Sequence[Any] | None = None,
    x_type: int = T.FLOAT,
    y_type: int | None = None,
    opset: int = 13,
    **attributes: Any,
) -> onnx.ModelProto:
    """Return x and `constants` through one node to y."""
    names = [f"c{index}" for index in range(len(constants))]
    values = [constant(name, value) for name, value in zip(names, constants, strict=True)]
    made = node(kind, ["x", *names], ["y"], name=f"/features/{kind.lower()}/{kind}", **attributes)
    end = x if y is None else y
    return graph_of([made], [("x", x_type, x)], [("y", y_type or x_type, end)], values, opset)


def through(kind: str, inner: int, *constants: Any, opset: int = 13, **attributes: Any) -> onnx.ModelProto:
    """Return float x, cast to `inner`, through one node, and cast back to float y."""
    names = [f"c{index}" for index in range(len(constants))]
    nodes = [
        node("Cast", ["x"], ["a"], to=inner, name="/first/Cast"),
        node(kind, ["a", *names], ["b"], name=f"/features/{kind.lower()}/{kind}", **attributes),
        node("Cast", ["b"], ["y"], to=T.FLOAT, name="/last/Cast"),
    ]
    values = [constant(name, value) for name, value in zip(names, constants, strict=True)]
    return graph_of(nodes, [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)], values, opset)


def quantised(zero: Any, scale: float = 0.1) -> onnx.ModelProto:
    """Return x through Q and DQ; `zero`: their zero point, or None for none."""
    names, values = ["s"], [constant("s", np.float32(scale))]
    if zero is not None:
        names, values = ["s", "z"], [*values, constant("z", zero)]
    nodes = [
        node("QuantizeLinear", ["x", *names], ["q"], name="/conv/QuantizeLinear"),
        node("DequantizeLinear", ["q", *names], ["y"], name="/conv/DequantizeLinear"),
    ]
    return graph_of(nodes, [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)], values)


def dequantised(values: Any) -> onnx.ModelProto:
    """Return x plus `values`, dequantised."""
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["b"], name="/conv/bias/DequantizeLinear"),
        node("Add", ["x", "b"], ["y"], name="/conv/Add"),
    ]
    return graph_of(
        nodes, [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)], [constant("w", values), constant("s", np.float32(0.1))]
    )


WEIGHT = np.ones((4, 4), np.float32)
FILTERS = np.ones((4, 4, 1, 1), np.float32)
_ELEMENTWISE = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Hardmax Identity "
    "LeakyRelu Log LogSoftmax Neg Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Tan "
    "Tanh ThresholdedRelu Shrink LpNormalization"
)


def supported() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield graphs that TensorRT-RTX builds."""
    for kind in _ELEMENTWISE.split():
        yield kind, one(kind, opset=14)
    for kind in ("Gelu", "Mish"):
        yield kind, one(kind, opset=20)
    yield "Mod", one("Mod", np.float32(2), fmod=1)
    yield "CumSum", one("CumSum", np.int64(1))
    yield "Trilu", one("Trilu", x=[1, 4, 4], opset=14)
    yield (
        "OneHot",
        graph_of(
            [node("Cast", ["x"], ["i"], to=T.INT32), node("OneHot", ["i", "d", "v"], ["y"])],
            [("x", T.FLOAT, ROW)],
            [("y", T.FLOAT, [1, 4, 3])],
            [constant("d", np.int64(3)), constant("v", np.float32([0, 1]))],
        ),
    )
    ones = np.ones(4, np.float32)
    yield "LayerNormalization", one("LayerNormalization", ones, opset=17)
    yield "RMSNormalization", one("RMSNormalization", ones, opset=23)
    yield "GroupNormalization", one("GroupNormalization", ones, ones, x=IMAGE, opset=21, num_groups=2)
    yield "InstanceNormalization", one("InstanceNormalization", ones, ones, x=IMAGE)
    yield "GridSample", one("GridSample", np.zeros((1, 2, 2, 2), np.float32), x=IMAGE, y=[1, 4, 2, 2], opset=16)
    yield "CastLike", one("CastLike", np.float16(1), y_type=T.FLOAT16, opset=15)
    yield "BlackmanWindow", graph_of(
        [node("BlackmanWindow", ["n"], ["w"]), node("Add", ["x", "w"], ["y"])],
        [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)], [constant("n", np.int64(4))], 17,
    )  # fmt: skip
    yield "IsInf", one("IsInf", y_type=T.BOOL)
    yield "Conv in 1D", one("Conv", np.ones((4, 4, 1), np.float32), x=[1, 4, 8])
    yield "Gemm", one("Gemm", WEIGHT)
    yield "Einsum", one("Einsum", WEIGHT, equation="ij,jk->ik")
    yield "int8 with zero point 0", quantised(np.int8(0))
    yield "uint8 in", one("Cast", x_type=T.UINT8, y_type=T.FLOAT, to=T.FLOAT)
    yield "uint8 out", one("Cast", y_type=T.UINT8, to=T.UINT8)
    yield "uint8 handed on", one("Identity", x_type=T.UINT8)
    yield "int64", one("Add", np.int64([1]), x_type=T.INT64)
    yield "int32", one("Mul", np.int32([3]), x_type=T.INT32)
    yield "bfloat16 inside", through("Relu", T.BFLOAT16)
    yield "float16 inside", through("Relu", T.FLOAT16)


def unsupported() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield graphs that TensorRT-RTX refuses."""
    yield "BitShift", through("BitShift", T.UINT8, np.uint8(1), direction="LEFT")
    yield "BitwiseAnd", through("BitwiseAnd", T.INT32, np.int32(1), opset=18)
    yield "Bernoulli", one("Bernoulli", opset=15)
    yield "Compress", one("Compress", np.array([True, False, True, False]), y=[1, 2], axis=1)
    yield "Det", one("Det", x=[1, 4, 4], y=[1])
    yield "Unique", one("Unique", y=["n"])
    yield "DFT", one("DFT", x=[1, 4, 1], y=[1, 4, 2], opset=17, axis=1)
    yield "AffineGrid", one("AffineGrid", np.int64([1, 1, 4, 4]), x=[1, 2, 3], y=[1, 4, 4, 2], opset=20)
    yield "CenterCropPad", one("CenterCropPad", np.int64([1, 2]), y=[1, 2], opset=18)
    yield "Col2Im", one("Col2Im", np.int64([4, 4]), np.int64([2, 2]), x=[1, 4, 9], y=[1, 1, 4, 4], opset=18)
    boxes = np.float32([[0, 0, 0, 3, 3]])
    yield "MaxRoiPool", one("MaxRoiPool", boxes, x=IMAGE, y=[1, 4, 2, 2], pooled_shape=[2, 2])
    yield "NegativeLogLikelihoodLoss", one("NegativeLogLikelihoodLoss", np.int64([1]), y=[])
    yield "SoftmaxCrossEntropyLoss", one("SoftmaxCrossEntropyLoss", np.int64([1]), y=[])
    yield (
        "MaxUnpool",
        one("MaxUnpool", np.int64([[[[0]]]]), x=[1, 1, 1, 1], y=[1, 1, 2, 2], kernel_shape=[2, 2], strides=[2, 2]),
    )
    yield "MatMulInteger", through("MatMulInteger", T.INT8, np.ones((4, 4), np.int8))
    yield "Multinomial", one("Multinomial", y_type=T.INT32, sample_size=4)
    ends = [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)]
    yield (
        "DynamicQuantizeLinear",
        graph_of(
            [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
            *ends,
        ),
    )
    yield (
        "SplitToSequence",
        graph_of(
            [node("SplitToSequence", ["x"], ["q"], axis=1), node("ConcatFromSequence", ["q"], ["y"], axis=1)], *ends
        ),
    )
    yield "NonZero", one("NonZero", y=[2, "n"], y_type=T.INT64)
    yield (
        "RoiAlign",
        one("RoiAlign", boxes[:, 1:], np.int64([0]), x=IMAGE, y=[1, 4, 2, 2], output_height=2, output_width=2),
    )
    offsets = np.zeros((1, 2, 8, 8), np.float32)
    yield "DeformConv", one("DeformConv", FILTERS, offsets, x=IMAGE, opset=19, kernel_shape=[1, 1])
    yield "MaxPool with indices", graph_of(
        [node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])],
        [("x", T.FLOAT, IMAGE)], [("y", T.FLOAT, [1, 4, 7, 7]), ("i", T.INT64, [1, 4, 7, 7])],
    )  # fmt: skip
    yield "MaxPool with dilations", one("MaxPool", x=IMAGE, y=[1, 4, 6, 6], kernel_shape=[2, 2], dilations=[2, 2])
    yield "uint8 inside", through("Identity", T.UINT8)
    yield "uint8 reshaped", one("Reshape", np.int64([4, 1]), y=[4, 1], x_type=T.UINT8)
    yield "int16 inside", through("Relu", T.INT16, opset=14)
    yield "string", one("Identity", x_type=T.STRING)
    yield "double in and out", one("Relu", x_type=T.DOUBLE)
    yield "half plus float", graph_of([node("Cast", ["x"], ["h"], to=T.FLOAT16), node("Add", ["h", "x"], ["y"])], *ends)
    yield "zero point 3", quantised(np.int8(3))
    yield "zero point 128", quantised(np.uint8(128))
    yield "a quantised bias", dequantised(np.arange(4, dtype=np.int32))
    yield "a uint8 weight", dequantised(np.arange(4, dtype=np.uint8))
    yield "QuantizeLinear to a uint8 output", one("QuantizeLinear", np.float32(0.1), y_type=T.UINT8)
