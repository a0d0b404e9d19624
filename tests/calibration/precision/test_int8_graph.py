"""int8 graphs compute what NumPy computes with the same scales, and are of the form that TensorRT takes."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest
from chain_networks import chain, images
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from onnx import helper, numpy_helper

from calibration.precision.activations import largest_magnitudes
from calibration.precision.int8_graph import quantisable_nodes, quantised_weight, to_int8
from exporter.onnx_graphs.session import open_session, run

CHAIN = chain()
INPUTS = images(16)
NODES = quantisable_nodes(CHAIN)
RANGES = largest_magnitudes(CHAIN, [item.activation for item in NODES.values()], [INPUTS])


def rounded(values: np.ndarray, largest: float) -> np.ndarray:
    """Quantise and dequantise as ONNX defines it: divide, round half to even, saturate, multiply; in float32."""
    scale = np.float32(largest / 127)
    return np.clip(np.rint(values / scale), -128, 127).astype(np.float32) * scale


def test_the_form_is_the_one_that_tensorrt_takes() -> None:
    before = CHAIN.SerializeToString(deterministic=True)
    made = to_int8(CHAIN, NODES, RANGES)
    assert CHAIN.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made, full_check=True)
    assert (made.graph.input, made.graph.output) == (CHAIN.graph.input, CHAIN.graph.output)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    makers = {node.output[0]: node for node in made.graph.node}
    weighted = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(weighted) == 5
    for node in weighted:
        for place in (0, 1):
            dequantise = makers[node.input[place]]
            assert dequantise.op_type == "DequantizeLinear"
            scale, zero_point = (constants[name] for name in dequantise.input[1:])
            assert zero_point.dtype == np.int8
            assert not zero_point.any()
            assert scale.dtype == np.float32
            assert (scale > 0).all()
            assert scale.shape == ((len(constants[dequantise.input[0]]),) if place else ())
        assert constants[makers[node.input[1]].input[0]].dtype == np.int8
        if node.op_type == "Conv":
            assert constants[node.input[2]].dtype == np.float32  # the bias
    assert not any(name.endswith(".weight") for name in constants)


def test_numbers_are_those_of_numpy() -> None:
    """One convolution of 1 x 1 over one position, then the classifier: sums short enough to be exact in float64."""
    generator = np.random.default_rng(5)
    weight = generator.standard_normal((6, 3, 1, 1)).astype(np.float32)
    bias = generator.standard_normal(6).astype(np.float32)
    fc = generator.standard_normal((6, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="/conv/Conv"),
        helper.make_node("Flatten", ["a"], ["flat"], name="/flatten/Flatten"),
        helper.make_node("MatMul", ["flat", "fc"], ["y"], name="/fc/MatMul"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, ["batch", 3, 1, 1])], [value("y", 1, ["batch", 4])],
        [numpy_helper.from_array(item, name) for item, name in ((weight, "w"), (bias, "b"), (fc, "fc"))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    inputs = generator.standard_normal((200, 3, 1, 1)).astype(np.float32)
    ranges = {"x": 1.5, "flat": 2.0}
    found = run(open_session(to_int8(model, quantisable_nodes(model), ranges), "disabled"), [inputs])[0]

    def weights(array: np.ndarray, axis: int) -> np.ndarray:
        numbers, scales = quantised_weight(array, axis)
        shape = [1] * array.ndim
        shape[axis] = -1
        return numbers * scales.reshape(shape)

    x = rounded(inputs, 1.5).reshape(200, 3).astype(np.float64)
    a = (x @ weights(weight, 0).reshape(6, 3).T.astype(np.float64) + bias).astype(np.float32)
    expected = rounded(a, 2.0).astype(np.float64) @ weights(fc, 1).astype(np.float64)
    # Where a sum lies on the edge of two steps, float32 and float64 may take different ones.
    close = np.isclose(found, expected, rtol=1e-5, atol=1e-5).all(axis=1)
    assert close.mean() > 0.98
    step = 2.0 / 127 * np.abs(weights(fc, 1)).max()
    assert np.abs(found - expected).max() < 1.01 * step


@given(
    st_numpy.arrays(
        np.float32, st_numpy.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-1e3, 1e3, width=32)
    ),
    st.integers(0, 1),
)
def test_weights_are_off_by_half_a_step_at_most_channel_by_channel(weight: np.ndarray, axis: int) -> None:
    numbers, scales = quantised_weight(weight, axis)
    assert numbers.dtype == np.int8
    assert numbers.min() >= -127
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = scales.reshape(shape).astype(np.float64)
    assert (np.abs(numbers * steps - weight) <= 0.5001 * steps).all()
    channels = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    largest = np.abs(np.moveaxis(numbers, axis, 0).reshape(channels.shape)).max(axis=1)
    normal = np.abs(channels).max(axis=1) > 1e-30  # below, the scale itself has few bits
    assert (largest[normal] == 127).all()


def one_node(operator: str, weight: tuple[int, ...], shape: list[object], **attributes: int) -> onnx.ModelProto:
    values = np.random.default_rng(0).standard_normal(weight).astype(np.float32)
    node = helper.make_node(operator, ["x", "w"], ["y"], name="/only/Node", **attributes)
    value = helper.make_tensor_value_info
    rank = [None] * len(shape)
    graph = helper.make_graph(
        [node], "g", [value("x", 1, shape)], [value("y", 1, rank)], [numpy_helper.from_array(values, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    ("operator", "weight", "shape", "attributes", "axis"),
    [
        ("Conv", (6, 3, 3, 3), ["n", 3, 8, 8], {}, 0),
        ("Conv", (6, 1, 3, 3), ["n", 6, 8, 8], {"group": 6}, 0),
        ("ConvTranspose", (3, 6, 2, 2), ["n", 3, 8, 8], {}, 1),
        ("ConvTranspose", (6, 1, 2, 2), ["n", 6, 8, 8], {"group": 6}, None),
        ("Gemm", (6, 5), ["n", 5], {"transB": 1}, 0),
        ("Gemm", (5, 6), ["n", 5], {}, 1),
        ("MatMul", (5, 6), ["n", 4, 5], {}, 1),
        ("MatMul", (2, 5, 6), ["n", 2, 4, 5], {}, None),
    ],
)
def test_scales_follow_the_output_channels(operator, weight, shape, attributes, axis) -> None:
    model = one_node(operator, weight, shape, **attributes)
    found = quantisable_nodes(model)
    assert [item.axis for item in found.values()] == ([] if axis is None else [axis])
    if axis is None:
        return
    made = to_int8(model, found, {"x": 4.0})
    scales = [numpy_helper.to_array(item) for item in made.graph.initializer if item.name.endswith(f"axis{axis}.scale")]
    assert [len(item) for item in scales] == [6]
    inputs = np.random.default_rng(1).standard_normal([2, *shape[1:]]).astype(np.float32)
    one, other = (run(open_session(item, "disabled"), [inputs])[0] for item in (model, made))
    assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_an_activation_is_quantised_once_whoever_reads_it_and_the_others_read_float() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/one/Conv"),
        helper.make_node("Conv", ["x", "w"], ["b"], name="/two/Conv"),
        helper.make_node("Sub", ["a", "x"], ["c"], name="/Sub"),
        helper.make_node("Add", ["b", "c"], ["y"], name="/Add"),
    ]
    value = helper.make_tensor_value_info
    shape = ["batch", 2, 1, 1]
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1), "w")
    graph = helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    both = to_int8(model, [0, 1], {"x": 1.0})
    assert [node.op_type for node in both.graph.node].count("QuantizeLinear") == 1
    assert [node.op_type for node in both.graph.node].count("DequantizeLinear") == 2
    assert next(node for node in both.graph.node if node.op_type == "Sub").input[1] == "x"
    first = to_int8(model, [0], {"x": 1.0})
    onnx.checker.check_model(first, full_check=True)
    assert "w" in {tensor.name for tensor in first.graph.initializer}


def test_scales_are_those_of_onnx_runtimes_own_quantiser(tmp_path: Path) -> None:
    """The other tool at hand, told to be symmetric: the same scales and int8 weights, channel by channel."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"images": INPUTS}])

        def get_next(self):
            return next(self.left, None)

    onnx.save(CHAIN, str(tmp_path / "float.onnx"))
    quantize_static(
        str(tmp_path / "float.onnx"), str(tmp_path / "int8.onnx"), Reader(), per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    theirs = {
        item.name: numpy_helper.to_array(item) for item in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer
    }
    made = to_int8(CHAIN, NODES, RANGES)
    ours = {item.name: numpy_helper.to_array(item) for item in made.graph.initializer}
    for layer in ("conv1", "conv2", "conv3", "conv4"):
        assert np.allclose(theirs[f"{layer}.weight_scale"], ours[f"{layer}.weight.axis0.scale"], rtol=1e-6)
        difference = theirs[f"{layer}.weight_quantized"].astype(int) - ours[f"{layer}.weight.axis0.int8"]
        assert np.abs(difference).max() <= 1
        assert (difference != 0).mean() < 0.01
    assert np.allclose(theirs["conv1_out_relu_scale"], ours["conv1_out_relu.scale"], rtol=1e-5)


@pytest.mark.skipif(util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX is for Linux on x86-64 only")
@pytest.mark.parametrize("compute_capability", ["8.6", "8.9"])
def test_tensorrt_builds_it(compute_capability: str) -> None:
    from engines.building.build import build_engine
    from exporter.cutting.cut import cut
    from exporter.cutting.encoded_halves import encode_halves
    from exporter.encoding.specification import ClipRange, affine_specification

    target = {"8.6": "rtx-ampere", "8.9": "rtx-ada"}[compute_capability]
    clip = ClipRange((0.0,), (6.0,), "minmax", None, 16, (0.0,), (6.0,))
    halves = encode_halves(cut(CHAIN, ["conv2_out_relu"]), [affine_specification(clip)])
    for half in (halves.head, halves.tail):
        nodes = quantisable_nodes(half)
        ranges = dict.fromkeys((item.activation for item in nodes.values()), 6.0)
        made = to_int8(half, nodes, ranges)
        assert len(build_engine(made, target).data) > 10_000
