"""trtexec's options by version, and what it leaves: times, outputs, reasons."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_jetson.trtexec_program import format_outputs, known_options

from jetson.agent.engine_maker import Maker, load_item
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.tensorrt_engines.tensor_info import TensorInfo
from jetson.tensorrt_engines.trtexec import (
    banner_version,
    build_options,
    measure_options,
    read_gpu_times,
    read_outputs,
    read_times,
    reason_of_failure,
    run_options,
    version_of,
)

VERSIONS = ("8.2.1", "8.4.1", "8.5.2", "8.6.2", "10.3.0.30", "10.13.3.9", "10.16.2.10", "11.4.1.2")
IMAGES = (TensorInfo("images", "float32", (-1, 3, 6, 6)),)
FIXED = (TensorInfo("images", "float32", (1, 3, 6, 6)),)
FULL = BuildSettings("int8", (1, 4, 8), (), 256 << 20, 1, True, 5)


def named(options: list[str]) -> set[str]:
    return {option.removeprefix("--").partition("=")[0] for option in options}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("settings", [BuildSettings(), FULL, BuildSettings("fp16", workspace_bytes=1, tf32=True)])
def test_no_version_is_told_what_it_does_not_know(version: str, settings: BuildSettings) -> None:
    numbers = version_of(version)
    inputs = IMAGES if settings.dynamic else FIXED
    known = known_options(numbers)
    assert named(build_options(numbers, "g.onnx", "e", inputs, settings)) <= known
    assert named(run_options("e", inputs, ["i"], 4, "o.json")) <= known
    assert named(measure_options(numbers, "e", inputs, 4, 100, 500, "t.json")) <= known


@pytest.mark.parametrize(
    ("version", "settings", "options"),
    [
        ("8.2.1", FULL, ["--buildOnly", "--int8", "--fp16", "--noTF32", "--workspace=256",
                         "--minShapes=images:1x3x6x6", "--optShapes=images:4x3x6x6", "--maxShapes=images:8x3x6x6",
                         "--useDLACore=1", "--allowGPUFallback"]),
        ("8.5.2", BuildSettings("fp16", workspace_bytes=3 << 20),
         ["--buildOnly", "--fp16", "--noTF32", "--memPoolSize=workspace:3"]),
        ("8.6.2", BuildSettings(optimization_level=0), ["--skipInference", "--noTF32", "--builderOptimizationLevel=0"]),
        ("10.3.0.30", BuildSettings("int8", dla_core=0, gpu_fallback=False),
         ["--skipInference", "--int8", "--fp16", "--noTF32", "--useDLACore=0"]),
        ("11.4.1.2", BuildSettings("fp16", tf32=True), ["--skipInference"]),
    ],
)  # fmt: skip
def test_how_each_version_is_told_to_build(version: str, settings: BuildSettings, options: list[str]) -> None:
    found = build_options(version_of(version), "/a b/g.onnx", "/a b/e", IMAGES, settings)
    assert found == ["--onnx=/a b/g.onnx", "--saveEngine=/a b/e", *options]


@pytest.mark.parametrize(("version", "flags"), [("8.2.1", ["--int8"]), ("8.5.2", ["--int8"]), ("10.3.0", [])])
def test_half_is_allowed_only_where_the_graph_holds_it(version: str, flags: list[str]) -> None:
    """TensorRT 8 would else take half for layers that the graph keeps in float32."""

    def told(settings: BuildSettings, has_half: bool) -> list[str]:
        options = build_options(version_of(version), "g", "e", FIXED, settings, has_half)
        return [option for option in options if option in ("--int8", "--fp16")]

    assert told(BuildSettings("int8"), False) == flags
    assert told(BuildSettings("int8"), True) == [*flags, *["--fp16"] * len(flags)]
    assert told(BuildSettings("int8", dla_core=0), False) == ["--int8", "--fp16"]


def test_names_with_colons_are_quoted() -> None:
    odd = (TensorInfo("x:0", "float32", (-1, 2)), TensorInfo("y", "int32", (-1,)))
    assert "--useDLACore=1" in run_options("e", odd, ["/f/0", "/f/1"], 3, "o", dla_core=1)
    assert "--useDLACore=1" in measure_options((10, 3), "e", odd, 3, 1, 500, "t", dla_core=1)
    found = run_options("e", odd, ["/f/0", "/f/1"], 3, "o")
    assert "--loadInputs='x:0':/f/0,y:/f/1" in found
    assert "--shapes='x:0':3x2,y:3" in found


def test_the_same_quantity_is_measured_by_every_version() -> None:
    old = measure_options((10, 3), "e", FIXED, 1, 100, 500, "t")
    assert not named(old) & {"noDataTransfers", "useSpinWait", "useCudaGraph", "shapes"}
    new = measure_options((11, 1), "e", FIXED, 1, 100, 500, "t")
    assert new == [*old, "--includeDataTransfers", "--noSpinWait", "--noCudaGraph"]


@pytest.mark.parametrize(
    ("banner", "version"),
    [("v8201", "8.2.1"), ("v8502", "8.5.2"), ("v8601", "8.6.1"), ("v100300", "10.3.0"), ("v101303", "10.13.3"),
     ("v110401", "11.4.1")],
)  # fmt: skip
def test_versions_in_the_banner(banner: str, version: str) -> None:
    assert banner_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] [b30] # trtexec --help\n") == version
    assert banner_version("=== Model Options ===") is None


def test_the_warm_up_of_old_versions_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps([{"startComputeMs": start, "latencyMs": start / 100} for start in (0, 499.9, 500, 600)]))
    assert read_times(str(path), (8, 2, 1), 500) == read_times(str(path), (8, 4, 1), 500) == [5.0, 6.0]
    assert read_times(str(path), (8, 5, 2), 500) == [0.0, 4.999, 5.0, 6.0]
    with pytest.raises(CoopexportError, match=r"no usable times into times\.json"):
        read_times(str(path), (8, 2), 1e6)
    path.write_text("[ { ")
    with pytest.raises(CoopexportError, match=r"no readable times\.json"):
        read_times(str(path), (10, 3), 0)


def test_times_of_each_run_have_four_parts_where_trtexec_tells_them(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    one = {"startEnqMs": 510.0, "endEnqMs": 510.125, "startComputeMs": 512.0, "h2dMs": 0.25, "computeMs": 2.0,
           "d2hMs": 0.5, "latencyMs": 2.75}  # fmt: skip
    early = {**one, "startComputeMs": 1.0, "computeMs": 50.0}
    path.write_text(json.dumps([early, one]))
    assert read_gpu_times(str(path), (8, 2, 1), 500) == [(0.25, 2.0, 0.5, 0.125)]
    assert [times.compute for times in read_gpu_times(str(path), (10, 3), 500)] == [50.0, 2.0]
    for broken in ({"h2dMs": None}, {"computeMs": -1.0}, {"endEnqMs": 509.0}):
        path.write_text(json.dumps([one, {**one, **broken}]))
        assert read_gpu_times(str(path), (10, 3), 500) == []
    del one["d2hMs"]
    path.write_text(json.dumps([one]))
    assert read_gpu_times(str(path), (10, 3), 500) == []


def test_outputs_are_found_by_name_and_of_the_declared_dtype(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_text('[{"name": "b", "values": [1.5, -2]}, {"name": "a", "values": [255, 0, 7, 1]}]')
    tensors = [TensorInfo("a", "uint8", (-1, 2)), TensorInfo("b", "float16", (2, 1))]
    one, other = read_outputs(str(path), tensors, 2)
    assert np.array_equal(one, np.array([[255, 0], [7, 1]], np.uint8))
    assert other.dtype == np.float16
    assert other.tolist() == [[1.5], [-2.0]]
    with pytest.raises(CoopexportError, match=r"returned no output c, but \['a', 'b'\]"):
        read_outputs(str(path), [TensorInfo("c", "uint8", (-1, 2))], 2)
    with pytest.raises(CoopexportError, match="4 values for a, its shape 3x2 needs 6"):
        read_outputs(str(path), tensors, 3)


def test_an_engine_is_loaded_on_the_core_that_it_was_built_for() -> None:
    item: Any = SimpleNamespace(inputs=FIXED, outputs=())
    runner = load_item(Maker("trtexec", "10.3.0", "/nowhere/trtexec"), item, b"engine", 1)
    with pytest.raises(CoopexportError, match="cannot be started"):
        runner([np.zeros((1, 3, 6, 6), np.float32)])
    assert runner._dla_core == 1
    runner.close()


def test_bytes_that_are_printed_as_characters_are_read(tmp_path: Path) -> None:
    """8.5 prints uint8 as C++ does; any byte may be there, also what ends a list or a text."""
    path = tmp_path / "o.json"
    every, scores = np.arange(256, dtype=np.uint8).reshape(2, 128), np.array([[1.5], [-2.25]], np.float32)
    described = [SimpleNamespace(name="symbols_0"), SimpleNamespace(name="scores")]
    tensors = [TensorInfo("scores", "float32", (-1, 1)), TensorInfo("symbols_0", "uint8", (-1, 128))]
    for version in ((8, 5, 2, 2), (8, 6, 1, 6)):
        path.write_bytes(format_outputs(version, described, [every, scores]).encode("latin-1"))
        found = read_outputs(str(path), tensors, 2)
        assert np.array_equal(found[0], scores)
        assert (found[1].dtype, found[1].tolist()) == (np.uint8, every.tolist())
    signed = np.array([[-1, 0, 127]], np.int8)
    path.write_bytes(format_outputs((8, 5), described[:1], [signed]).encode("latin-1"))
    assert read_outputs(str(path), [TensorInfo("symbols_0", "int8", (1, 3))], 1)[0].tolist() == signed.tolist()
    for tensor in (
        TensorInfo("symbols_0", "int8", (1, 2)),
        TensorInfo("symbols_0", "int8", (1, 4)),
        TensorInfo("scores", "int8", (1, 3)),
    ):
        with pytest.raises(CoopexportError, match="trtexec left no readable"):
            read_outputs(str(path), [tensor], 1)


def test_the_reason_is_in_its_own_words_and_once() -> None:
    log = (
        "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec\n[11/20/2026-10:00:00] [I] === Model ===\n"
        "[11/20/2026-10:00:01] [E] [TRT] No importer registered for op: BitShift\n"
        "[11/20/2026-10:00:01] [E] [TRT] No importer registered for op: BitShift\n"
        "[11/20/2026-10:00:01] [W] slow\n[11/20/2026-10:00:01] [E] Engine set up failed\n"
    )
    expected = "trtexec failed: [TRT] No importer registered for op: BitShift; Engine set up failed"
    assert reason_of_failure(1, log) == expected
    assert reason_of_failure(1, "") == "trtexec failed: exit code 1, without a line of error"
    assert reason_of_failure(-11, "") == "signal 11 ended trtexec"
    with pytest.raises(CoopexportError, match="is not a version"):
        version_of("8.x")
