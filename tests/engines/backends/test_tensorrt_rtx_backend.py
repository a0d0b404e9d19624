"""TensorRT-RTX: real builds, no GPU. What an engine file is, and what is refused instead of built wrongly."""

from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_graphs
from onnx import TensorProto, helper, numpy_helper
from small_graphs import make_model, small_halves, small_network

from engines.backends.registry import find_backend
from engines.building.build import build_engine, builder_version
from engines.target_files.target_file import target_file
from engines.targets.lookup import Target, find_target
from jetson.engines.build_settings import BuildSettings
from jetson.engines.header import begins_like_engine
from jetson.errors import CoopexportError
from jetson.tensorrt_engines.build import build_engine as build_engine_file
from jetson.tensorrt_engines.library import open_library

REPOSITORY = Path(__file__).resolve().parents[3]
BACKEND = find_backend("tensorrt-rtx")
ADA = find_target("rtx-ada")
HOPPER = Target("rtx-hopper", "SM 9.0", "tensorrt-rtx", compute_capability="9.0")
STATIC = BuildSettings()
HEAD = target_file(small_halves().head, ADA, (1, 1, 1), "head")

installed = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


@installed
@pytest.mark.parametrize(("target", "mask"), [("rtx-ampere", 4), ("rtx-ada", 8)])
def test_header_says_what_the_file_is(target: str, mask: int) -> None:
    data = BACKEND.build(HEAD, find_target(target), STATIC).data
    assert data[:4] == b"vtrt"
    assert begins_like_engine("tensorrt-rtx", data)
    assert int.from_bytes(data[16:24], "little") == len(data)
    assert int.from_bytes(data[32:36], "little") == mask


@installed
def test_the_same_graph_gives_the_same_bytes() -> None:
    first = BACKEND.build(HEAD, ADA, STATIC)
    assert BACKEND.build(HEAD, ADA, STATIC) == first
    assert build_engine(small_halves().head, "rtx-ada") == first
    assert BACKEND.build(target_file(small_halves(seed=1).head, ADA, (1, 1, 1), "head"), ADA, STATIC).data != first.data
    assert BACKEND.build(HEAD, find_target("rtx-ampere"), STATIC).data != first.data


@installed
def test_tf32_is_off() -> None:
    """On by default: it would make of float32 weights and features 10-bit ones, and no GPU is here to notice."""
    network = target_file(small_network(), ADA, (1, 1, 1), "net")
    engine = BACKEND.build(network, ADA, STATIC)
    assert (engine.flags["tf32"], engine.flags["strongly_typed"]) == (False, True)
    assert engine.data == plain_build(network, tf32=False)
    assert engine.data != plain_build(network, tf32=True)


def plain_build(model: onnx.ModelProto, tf32: bool) -> bytes:
    """Build with nothing but TensorRT-RTX's own calls."""
    import tensorrt_rtx

    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    network, _parser = parse(builder, model)
    config = builder.create_builder_config()
    assert config.get_flag(tensorrt_rtx.BuilderFlag.TF32)
    if not tf32:
        config.clear_flag(tensorrt_rtx.BuilderFlag.TF32)
    config.profiling_verbosity = tensorrt_rtx.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(tensorrt_rtx.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config))


def parse(builder: Any, model: onnx.ModelProto) -> tuple[Any, Any]:
    """Return network and parser; the network lives as long as the parser."""
    import tensorrt_rtx

    network = builder.create_network(0)
    parser = tensorrt_rtx.OnnxParser(network, tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    assert parser.parse(model.SerializeToString())
    return network, parser


@installed
def test_symbols_leave_and_arrive_as_uint8() -> None:
    import tensorrt_rtx

    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR))
    head, _head_parser = parse(builder, HEAD)
    assert head.get_output(0).dtype == tensorrt_rtx.uint8
    tail, _tail_parser = parse(builder, target_file(small_halves().tail, ADA, (1, 1, 1), "tail"))
    assert tail.get_input(0).dtype == tensorrt_rtx.uint8
    assert tail.get_output(0).dtype == tensorrt_rtx.float32


@installed
def test_a_graph_whose_uint8_would_become_int8_is_refused() -> None:
    scale, zero = numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], name="quantise")
    model = make_model([node], {"x": [1, 3]}, {"y": [1, 3]}, [scale, zero], output_type=TensorProto.UINT8)
    with pytest.raises(CoopexportError, match=r"'y'.*int8.*declares as .*uint8"):
        BACKEND.build(model, ADA, STATIC)


@installed
@pytest.mark.parametrize(
    ("operator", "domain", "said"),
    [("Det", "", "Det roll"), ("Magic", "com.example", "Magic roll"), ("NoSuchOperator", "", "Plugin not found")],
)
def test_what_the_parser_says_is_passed_on_with_the_node(operator: str, domain: str, said: str) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node(operator, ["r"], ["y"], name="roll", domain=domain),
    ]
    model = make_model(nodes, {"x": [1, 3, 3]}, {"y": [1]}, domains=(domain,) if domain else ())
    with pytest.raises(CoopexportError, match="cannot read the graph: node 1 ") as refusal:
        BACKEND.build(model, ADA, STATIC)
    assert "roll" in str(refusal.value)
    assert said in str(refusal.value)


@installed
@pytest.mark.parametrize(
    "model",
    [onnx.ModelProto(), make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {})],
    ids=["nothing", "no output"],
)
def test_an_empty_graph_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(CoopexportError, match="cannot read the graph: no network comes out of it"):
        BACKEND.build(model, ADA, STATIC)


@installed
def test_an_error_of_one_graph_is_not_told_of_the_next() -> None:
    unknown = make_model([helper.make_node("NoSuchOperator", ["x"], ["y"], name="n1")], {"x": [1, 3]}, {"y": [1, 3]})
    with pytest.raises(CoopexportError, match="n1"):
        BACKEND.build(unknown, ADA, STATIC)
    with pytest.raises(CoopexportError) as second:
        BACKEND.build(onnx.ModelProto(), ADA, STATIC)
    assert "n1" not in str(second.value)


@installed
def test_what_the_builder_says_is_passed_on() -> None:
    """In a process of its own: a build that failed leaves its mark on the bytes of the next one."""
    script = (
        f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(Path(__file__).parents[1])!r}]\n"
        "from small_graphs import small_network\n"
        "from engines.backends.registry import find_backend\n"
        "from engines.target_files.target_file import target_file\n"
        "from engines.targets.lookup import Target\n"
        "from jetson.engines.build_settings import BuildSettings\n"
        "from jetson.errors import CoopexportError\n"
        "turing = Target('turing', '', 'tensorrt-rtx', compute_capability='7.5')\n"
        "try:\n"
        "    file = target_file(small_network(), turing, (1, 1, 1), 'net')\n"
        "    find_backend('tensorrt-rtx').build(file, turing, BuildSettings())\n"
        "except CoopexportError as error:\n"
        "    print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("TensorRT-RTX built no engine: ")
    assert "classify" in printed
    assert "FP32 GEMM is not supported" in printed
    assert len(printed.splitlines()) == 1


@installed
def test_an_unsupported_gpu_is_named() -> None:
    found = BACKEND.can_build(HOPPER)
    assert not found.usable
    assert "SM 9.0" in found.reason
    with pytest.raises(CoopexportError, match=r'target "rtx-hopper" here: it does not build for SM 9\.0'):
        builder_version(HOPPER)
    with pytest.raises(CoopexportError, match=r"SM 9\.0"):
        BACKEND.build(HEAD, HOPPER, STATIC)


@installed
def test_without_its_gpu_an_engine_is_built_but_neither_run_nor_looked_into() -> None:
    import tensorrt_rtx

    buildable = BACKEND.can_build(ADA)
    assert (buildable.usable, buildable.version) == (True, tensorrt_rtx.__version__)
    runnable = BACKEND.can_run(ADA)
    if runnable.usable:
        pytest.skip("left out: the target's GPU is here")
    assert "run on their GPU only" in runnable.reason
    for use in (BACKEND.load, BACKEND.inspect):
        with pytest.raises(CoopexportError, match=r"cannot .* this engine: .*run on their GPU only"):
            use(BACKEND.build(HEAD, ADA, STATIC).data, ADA)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    for found in (BACKEND.can_build(ADA), BACKEND.can_run(ADA)):
        assert (found.usable, found.version) == (False, None)
        assert "coopexport[rtx]" in found.reason
    with pytest.raises(CoopexportError, match=r'cannot build for target "rtx-ada" here: .*coopexport\[rtx\]'):
        build_engine(small_network(), "rtx-ada")


def test_a_package_whose_libraries_do_not_load_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text("raise OSError('libtensorrt_rtx.so: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = BACKEND.can_build(ADA)
    assert not found.usable
    assert "libtensorrt_rtx.so" in found.reason


CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
KINDS = {
    "head": ("fp32", tensorrt_graphs.head),
    "tail": ("fp32", tensorrt_graphs.tail),
    "half": ("fp16", tensorrt_graphs.half),
    "quantised": ("int8", tensorrt_graphs.quantised),
}


# But for the float32 Gemm of a tail, which SM 7.5 does not have: see test_what_the_builder_says_is_passed_on.
BUILDS = [
    pytest.param(kind, capability, batches, marks=() if capability in ("7.5", "8.9") else pytest.mark.full)
    for kind in KINDS
    for capability in CAPABILITIES
    for batches in ((1, 1, 1), (1, 4, 8))
    if (kind, capability) != ("tail", "7.5")
]


@installed
@pytest.mark.parametrize(("kind", "capability", "batches"), BUILDS)
def test_every_precision_is_built_for_every_gpu(kind: str, capability: str, batches: tuple[int, int, int]) -> None:
    precision, make = KINDS[kind]
    settings = BuildSettings(precision, batches, (capability,))
    graph = make(1 if batches[2] == 1 else "batch")
    engine = BACKEND.build(graph, ADA, settings)
    mask = int.from_bytes(engine.data[32:36], "little")
    assert mask == {"7.5": 1, "8.0": 2, "8.6": 4, "8.9": 8, "12.0": 16, "12.1": 32}[capability]
    assert engine.flags["batches"] == list(batches)
    assert engine.warnings == ()


@installed
def test_one_engine_for_several_gpus_and_a_small_workspace() -> None:
    settings = BuildSettings("fp16", (1, 1, 1), ("8.6", "8.9"), workspace_bytes=1 << 24, optimization_level=1)
    engine = BACKEND.build(tensorrt_graphs.half(), ADA, settings)
    assert int.from_bytes(engine.data[32:36], "little") == 4 + 8
    assert (engine.flags["workspace_limit_bytes"], engine.flags["optimization_level"]) == (1 << 24, 1)


@installed
def test_progress_is_told_and_a_build_can_be_stopped() -> None:
    """The real builder calls back from threads of its own."""
    told = []

    def stop(phase: str, done: int, _steps: int) -> None:
        told.append(phase)
        if phase == "Building engine" and done == 2:
            raise KeyboardInterrupt

    library = open_library("tensorrt-rtx")
    settings = BuildSettings(compute_capabilities=("8.9",))
    with pytest.raises(KeyboardInterrupt):
        build_engine_file(library, HEAD.SerializeToString(), settings, on_progress=stop)
    assert "Building engine" in told
    assert build_engine_file(library, HEAD.SerializeToString(), settings).data == BACKEND.build(HEAD, ADA, STATIC).data
