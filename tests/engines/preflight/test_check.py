"""Preflight for every TensorRT: operators, types, quantisation, weights outside; every node named with its layer."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from one_node_graphs import (
    ROW,
    WEIGHT,
    T,
    constant,
    dequantised,
    graph_of,
    node,
    one,
    quantised,
    supported,
    through,
)
from onnx import helper
from small_graphs import small_halves, small_network

from engines.preflight.check import buildable_graph_warnings, preflight
from engines.preflight.operators import tensorrt_version
from engines.preflight.problems import Problem
from engines.target_files.target_file import target_file
from engines.targets.lookup import Target, find_target, load_targets
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

STATIC = BuildSettings()
NANO, XAVIER, ORIN60, ORIN62, ORIN72, THOR = (
    find_target(name) for name in ("nano", "xavier-nx", "orin-nano@6.0", "orin-nano", "orin-nano@7.2", "thor@7.1")
)
CPU = find_target("cpu")
OLD_TO_NEW = (NANO, XAVIER, ORIN60, ORIN62, THOR, ORIN72)


def found(model: onnx.ModelProto, target: Target, folder: Path | None = None) -> list[Problem]:
    return preflight(model, target, STATIC, folder)


def refused(model: onnx.ModelProto, target: Target) -> list[str]:
    return [str(problem) for problem in found(model, target) if problem.refused]


@pytest.mark.parametrize(
    ("model", "first"),
    [
        (one("Round"), NANO),
        (one("HardSwish", opset=14), XAVIER),
        (one("Mod", np.float32(2), fmod=1), XAVIER),
        (one("Reciprocal"), XAVIER),
        (one("LayerNormalization", np.ones(4, np.float32), opset=17), ORIN60),
        (one("Hardmax"), ORIN62),
        (one("DeformConv", WEIGHT.reshape(4, 4, 1, 1), np.zeros((1, 2, 8, 8), np.float32), x=[1, 4, 8, 8]), ORIN62),
        (one("BlackmanWindow", x=[], y=[4], x_type=T.INT64, y_type=T.FLOAT, opset=17), THOR),
        (one("RMSNormalization", np.ones(4, np.float32), opset=23), ORIN72),
    ],
    ids=lambda item: item.graph.node[0].op_type if isinstance(item, onnx.ModelProto) else item.name,
)
def test_operators_are_refused_before_the_version_that_brought_them(model: onnx.ModelProto, first: Target) -> None:
    kind = model.graph.node[0].op_type
    for target in OLD_TO_NEW:
        said = [item for item in refused(model, target) if f"{kind} is in" in item]
        assert bool(said) == (tensorrt_version(target) < tensorrt_version(first)), target.name
        assert all(f"layer features/{kind.lower()}" in item.replace(".", "/") for item in said)


@pytest.mark.parametrize(("version", "is_there"), [("8.4", False), ("8.5", True), ("8.5.0", True), ("8.6", True)])
def test_the_version_that_brought_an_operator_has_it(version: str, is_there: bool) -> None:
    """A project may give a version in two numbers."""
    target = dataclasses.replace(XAVIER, tensorrt=version)
    assert ([item for item in refused(one("Reciprocal"), target) if "Reciprocal is in" in item] == []) == is_there


@pytest.mark.parametrize("target", [item for item in load_targets().values() if item.backend != "onnxruntime"],
                         ids=lambda item: item.name)  # fmt: skip
def test_operators_that_none_has_are_refused_for_all(target: Target) -> None:
    for kind in ("BitShift", "BitwiseAnd", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear", "Det"):
        model = one(kind, opset=13)
        assert any(f"no TensorRT has {kind}" in str(item) for item in found(model, target) if item.refused)
    assert refused(target_file(small_network(), target, (1, 1, 1), "net"), target) == (
        ["layer classify (Gemm): TensorRT-RTX has no float32 matrix products at SM 7.5; use --precision fp16"]
        if target.name == "rtx-turing"
        else []
    )


def test_an_operator_that_is_not_known_is_a_warning() -> None:
    model = one("Gelu", opset=20)
    (problem,) = found(model, ORIN62)
    assert not problem.refused
    assert (
        str(problem)
        == "layer features.gelu (Gelu '/features/gelu/Gelu'): it is not known whether TensorRT 10.3.0 has Gelu"
    )
    assert [problem.refused for problem in found(one("Gelu", opset=17), XAVIER) if "Gelu is not in" in problem.reason]
    assert found(model, ORIN72) == []
    (warning,) = buildable_graph_warnings(model, ORIN62, STATIC, "net")
    assert warning == problem
    unheard = one("FutureOperator")
    assert [item.refused for item in found(unheard, ORIN72) if "FutureOperator" in item.reason] == [False]


@pytest.mark.parametrize(("name", "model"), [pytest.param(*pair, id=pair[0]) for pair in supported()])
def test_the_newest_takes_what_tensorrt_rtx_builds(name: str, model: onnx.ModelProto) -> None:
    assert refused(model, ORIN72) == []
    assert [str(item) for item in found(model, CPU)] == []


@pytest.mark.parametrize(
    ("model", "since", "said"),
    [
        (one("Cast", to=T.UINT8, y_type=T.UINT8), (8, 5), "'y' is uint8, which is not a type there"),
        (one("Cast", to=T.FLOAT, x_type=T.UINT8, y_type=T.FLOAT), (8, 5), "'x' is uint8, which is not a type there"),
        (one("Cast", to=T.UINT8, x_type=T.INT32, y_type=T.UINT8), (8, 6), "casts only floats to uint8"),
        (one("Cast", to=T.INT32, x_type=T.UINT8, y_type=T.INT32), (8, 6), "casts uint8 only to floats"),
        (one("Add", np.int64([1]), x_type=T.INT64), (9, 0), "would become int32 without a word"),
        (through("Relu", T.BFLOAT16), (9, 0), "bfloat16 is not a type there"),
        (through("Relu", T.INT16, opset=14), (99, 0), "int16 is not a type there"),
        (one("Relu", x_type=T.DOUBLE), (99, 0), "'x' is double, and would become float without a word"),
        (through("Identity", T.UINT8), (99, 0), "uint8"),
        (one("Conv", np.ones((4, 4, 1), np.float32), x=[1, 4, 8]), (8, 5), "no convolutions in one dimension"),
    ],
)
def test_types_are_refused_where_they_are_none(model: onnx.ModelProto, since: tuple[int, int], said: str) -> None:
    for target in OLD_TO_NEW:
        is_refused = any(said in item or (since > (8, 5) and "not a type" in item) for item in refused(model, target))
        if tensorrt_version(target) < since:
            assert is_refused, target.name
        else:
            assert refused(model, target) == [] or said == "int16 is not a type there", target.name
    assert refused(model, CPU) == []


def test_double_inside_is_a_warning() -> None:
    model = through("Mul", T.DOUBLE, np.float64(2))
    problems = found(model, ORIN62)
    assert {problem.reason for problem in problems} == {"double becomes float there"}
    assert not any(problem.refused for problem in problems)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (quantised(None), "becomes int8 there without a word"),
        (quantised(np.uint8(0)), "becomes int8 there without a word"),
        (quantised(np.int8(3)), "the zero point is not 0"),
        (quantised(np.uint8(128)), "the zero point is not 0"),
        (dequantised(np.arange(4, dtype=np.int32)), "leave biases in float"),
        (dequantised(np.arange(4, dtype=np.uint8)), "DequantizeLinear of uint8"),
    ],
)
def test_quantisation_that_is_not_symmetric_int8_is_refused(model: onnx.ModelProto, said: str) -> None:
    for target in OLD_TO_NEW:
        assert any(said in item and "layer conv" in item for item in refused(model, target))
        assert refused(quantised(np.int8(0)), target) == []
        assert refused(dequantised(np.arange(4, dtype=np.int8)), target) == []


def test_a_computed_zero_point_is_refused() -> None:
    nodes = [
        node("Cast", ["x"], ["z0"], to=T.INT8),
        node("ReduceMax", ["z0"], ["z"], keepdims=0),
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="/a/Q"),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], name="/a/DQ"),
    ]
    ends = [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)]
    said = refused(graph_of(nodes, *ends, [constant("s", np.float32(0.1))]), ORIN62)
    assert sum("the zero point is computed" in item for item in said) == 2


def test_mixed_half_and_float_is_refused() -> None:
    nodes = [node("Cast", ["x"], ["h"], to=T.FLOAT16), node("Add", ["h", "x"], ["y"], name="mixed")]
    model = graph_of(nodes, [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)])
    assert any("do not fit together" in item and "mixed" in item for item in refused(model, ORIN62))


def test_the_opset_is_compared_with_what_the_parser_reads() -> None:
    model = one("Relu", opset=18)
    assert refused(model, XAVIER) == ["the graph is of opset 18, and 17 is the newest that is read there"]
    assert refused(model, ORIN62) == []
    assert refused(model, find_target("nano-cpu")) == [
        "the graph is of opset 18, and 15 is the newest that is read there"
    ]


def test_foreign_operators_and_functions_are_refused_for_all() -> None:
    magic = helper.make_node("Relu", ["x"], ["t"], name="/features/magic/Relu", domain="com.example")
    model = graph_of([magic, node("Relu", ["t"], ["y"])], [("x", T.FLOAT, ROW)], [("y", T.FLOAT, ROW)])
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    for target in (*OLD_TO_NEW, CPU, find_target("rtx-ada")):
        said = [item for item in refused(model, target) if "not a standard ONNX operator" in item]
        assert said == [
            "layer features.magic (Relu '/features/magic/Relu'): com.example.Relu is not a standard ONNX operator"
        ]
    assert any("FeatureEncode is not inlined" in item for item in refused(small_halves().head, ORIN62))


def test_every_node_is_listed_by_reason_with_its_layer() -> None:
    chain = [("features.a", "Bernoulli"), ("features.a", "Relu"), ("head.b", "Bernoulli"), ("head.c", "Det")]
    nodes = [
        node(kind, [f"t{i}"], [f"t{i + 1}"], name=f"/{layer.split('.')[0]}/{layer}/{kind}")
        for i, (layer, kind) in enumerate(chain)
    ]
    model = graph_of(nodes, [("t0", T.FLOAT, [1, 4, 4])], [("t4", T.FLOAT, [1])], opset=15)
    with pytest.raises(CoopexportError) as refusal:
        buildable_graph_warnings(model, ORIN62, STATIC, "the head of a")
    said = str(refusal.value)
    assert said.startswith("the head of a cannot be built for orin-nano@6.2: 3 problems: no TensorRT has Bernoulli: ")
    for where in (
        "layer features.a (Bernoulli '/features/features.a/Bernoulli'), layer head.b (Bernoulli",
        "no TensorRT has Det: layer head.c (Det '/head/head.c/Det')",
    ):
        assert where in said


def test_nodes_of_the_encoding_are_called_so() -> None:
    """On TensorRT 8.2 what is of uint8 is the encoding at the cut alone."""
    for role, layer in (("head", "FeatureEncode"), ("tail", "FeatureDecode")):
        file = target_file(getattr(small_halves(), role), NANO, (1, 1, 1), role)
        assert refused(file, NANO) == ["'symbols_0' is uint8, which is not a type there"]
        file.graph.node.append(node("Det", ["symbols_0"], ["d"], name=f"/{layer}/Det_9__1"))
        file.graph.output.append(helper.make_tensor_value_info("d", T.FLOAT, [1]))
        assert any(item.startswith(f"layer {layer} (Det") for item in refused(file, NANO))


def with_weights_outside(location: str, length: int = 16) -> onnx.ModelProto:
    model = one("Add", np.ones(4, np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../weights.bin", "a path out of the model's folder"),
        ("inner/../../weights.bin", "a path out of the model's folder"),
        ("..\\weights.bin", "a path out of the model's folder"),
        ("/etc/weights.bin", "an absolute path"),
        ("C:\\weights.bin", "an absolute path"),
        ("", "no file is named"),
        ("missing.bin", "there is no such file"),
        ("soft.bin", "a symbolic link"),
        ("linked/weights.bin", "a symbolic link"),
        ("hard.bin", "a hard link"),
        ("short.bin", "the file has 4 bytes, and bytes 0 to 16 are wanted"),
    ],
)
def test_weights_outside_lie_where_every_reader_looks(tmp_path: Path, location: str, said: str) -> None:
    (tmp_path / "inner").mkdir()
    for name, size in (("good.bin", 16), ("inner/weights.bin", 16), ("short.bin", 4), ("twin.bin", 16)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "soft.bin").symlink_to("good.bin")
    (tmp_path / "linked").symlink_to("inner")
    os.link(tmp_path / "twin.bin", tmp_path / "hard.bin")
    for target in (ORIN62, CPU, find_target("rtx-ada")):
        problems = [str(item) for item in found(with_weights_outside(location), target, tmp_path) if item.refused]
        assert any(said in item and f"'c0' lie in '{location}'" in item for item in problems)
        for good in ("good.bin", "inner/weights.bin"):
            assert found(with_weights_outside(good), target, tmp_path) == []
    assert any("must hold its weights itself" in item for item in refused(with_weights_outside("good.bin"), ORIN62))
