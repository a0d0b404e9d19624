"""ONNX Runtime: what is said when it cannot be used, and that it never computes elsewhere than it was told."""

from __future__ import annotations

import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_graphs import small_halves, small_inputs, small_network

from engines.backends import onnxruntime_backend
from engines.backends.registry import find_backend
from engines.building.build import builder_version
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

BACKEND = find_backend("onnxruntime")
CPU, CUDA = find_target("cpu"), find_target("cuda")
STATIC = BuildSettings()
SMALL = target_file(small_network(), CPU, (1, 1, 1), "net").SerializeToString()


def test_cpu_is_usable_here() -> None:
    for found in (BACKEND.can_build(CPU), BACKEND.can_run(CPU)):
        assert (found.usable, found.version, found.reason) == (True, onnxruntime.__version__, "")


def test_two_distributions_at_once_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("onnxruntime", "onnxruntime-gpu"):
            return "1.20.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(onnxruntime_backend.metadata, "version", version)
    found = BACKEND.can_build(CPU)
    assert not found.usable
    assert "onnxruntime and onnxruntime-gpu are both installed" in found.reason
    assert "uninstall both" in found.reason
    with pytest.raises(CoopexportError, match='cannot build for target "cpu" here: onnxruntime and onnxruntime-gpu'):
        builder_version(CPU)


def test_missing_provider_is_named() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("left out: this ONNX Runtime has CUDA; the case needs the CPU package")
    found = BACKEND.can_build(CUDA)
    assert not found.usable
    assert found.version == onnxruntime.__version__
    assert "CUDAExecutionProvider" in found.reason
    assert "coopexport[gpu]" in found.reason


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = BACKEND.can_run(CPU)
    assert (found.usable, found.version) == (False, None)
    assert "coopexport[cpu]" in found.reason


class CpuInstead:
    """What ONNX Runtime with CUDA gives on a machine without a GPU: a session that quietly computes on the CPU."""

    opened: list[dict[str, Any]]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, started: list[str]) -> None:
        self.opened = []
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)

        def open_session(model: Any, optimisation: str, **options: Any) -> Any:
            self.opened.append(options)
            return SimpleNamespace(get_providers=lambda: started, get_inputs=lambda: [])

        monkeypatch.setattr(onnxruntime_backend, "open_session", open_session)


def test_a_gpu_that_does_not_start_is_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    CpuInstead(monkeypatch, ["CPUExecutionProvider"])
    assert BACKEND.can_build(CUDA).usable  # the file is the same for every machine
    found = BACKEND.can_run(CUDA)
    assert not found.usable
    assert "CUDAExecutionProvider does not start here" in found.reason
    with pytest.raises(CoopexportError, match="would use CPUExecutionProvider instead"):
        BACKEND.load(SMALL, CUDA)


def test_cuda_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = CpuInstead(monkeypatch, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert BACKEND.can_run(CUDA).usable
    BACKEND.load(SMALL, CUDA)
    assert fake.opened[-1] == {"threads": 1, "providers": [("CUDAExecutionProvider", {"use_tf32": "0"})]}


def test_the_engine_is_the_file_itself() -> None:
    model = target_file(small_halves().tail, CPU, (1, 1, 1), "tail")
    engine = BACKEND.build(model, CPU, STATIC)
    assert engine.data == BACKEND.build(model, CPU, STATIC).data == model.SerializeToString(deterministic=True)
    assert engine.flags == {**STATIC.to_json(), "optimisation": "all", "threads": 1}


def test_a_loaded_engine_computes_what_the_graph_does() -> None:
    model = small_network(batch=2)
    engine = BACKEND.build(target_file(model, CPU, (2, 2, 2), "net"), CPU, BuildSettings(batches=(2, 2, 2)))
    inputs = small_inputs(2)
    runner = BACKEND.load(engine.data, CPU)
    (found,) = runner([inputs])
    np.testing.assert_allclose(found, run(open_session(model, "disabled"), [inputs])[0], rtol=1e-5)
    runner.close()
    with pytest.raises(CoopexportError, match="closed"):
        runner([inputs])


def test_the_nodes_of_an_engine_are_listed() -> None:
    network = target_file(small_network(), CPU, (1, 1, 1), "net")
    found = BACKEND.inspect(BACKEND.build(network, CPU, STATIC).data, CPU)
    assert [item.kind for item in found] == [node.op_type for node in network.graph.node]
    assert [item.name for item in found] == [node.name or node.output[0] for node in network.graph.node]


@pytest.mark.parametrize(
    "wrong", [[small_inputs(1).astype(np.uint8)], [small_inputs(2)], [small_inputs(1)[:, :2]], [small_inputs(1)] * 2]
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(wrong: list[np.ndarray]) -> None:
    runner = BACKEND.load(SMALL, CPU)
    with pytest.raises(CoopexportError, match=r"cannot run the engine: |takes 1 inputs, got 2"):
        runner(wrong)
    assert runner([small_inputs(1)])[0].shape[0] == 1


@pytest.mark.parametrize("content", [b"", b"vtrt" + bytes(100), b"no model"])
def test_files_that_are_no_models_are_refused(content: bytes) -> None:
    with pytest.raises(CoopexportError, match=r"cannot load the engine"):
        BACKEND.load(content, CPU)
