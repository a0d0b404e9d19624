"""Classic TensorRT as a backend, over the doubles: availability, builds, runs, and what an engine is made of."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorrt_graphs
from tensorrt_doubles import host_memory
from tensorrt_doubles.installing import VERSIONS, installed
from tensorrt_doubles.pycuda_double import make_driver

from engines.backends import tensorrt_engine
from engines.backends.registry import find_backend
from engines.targets.lookup import Target, find_target
from jetson.cuda.driver import Gpu
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

BACKEND = find_backend("tensorrt")
ORIN = find_target("orin-nano@6.2")
OWN = Target("own", "this desktop's GPU", "tensorrt", compute_capability="8.7")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[host_memory.HostMemory]:
    """An Orin's GPU, and memory that must be clean in the end."""
    monkeypatch.setattr(tensorrt_engine, "first_gpu", lambda: Gpu("NVIDIA Orin", "8.7", "12.6"))
    host_memory.forget_process_memory()
    memory = host_memory.process_memory()
    driver = make_driver(memory)
    monkeypatch.setitem(sys.modules, "pycuda", type(sys)("pycuda"))
    monkeypatch.setattr(sys.modules["pycuda"], "driver", driver, raising=False)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    yield memory
    memory.check_clean()
    host_memory.forget_process_memory()


def test_the_targets_own_version_and_gpu_are_needed(gpu: host_memory.HostMemory) -> None:
    with installed("10.3"):
        assert BACKEND.can_build(ORIN) == BACKEND.can_run(ORIN)
        assert (BACKEND.can_build(ORIN).usable, BACKEND.can_build(ORIN).version) == (True, "10.3.0")
        other = BACKEND.can_build(dataclasses.replace(ORIN, compute_capability="7.2"))
        assert not other.usable
        assert "NVIDIA Orin is here (SM 8.7), the target has SM 7.2; build on the device itself" in other.reason
    with installed("10.13"):
        found = BACKEND.can_build(ORIN)
        assert not found.usable
        assert "TensorRT 10.13.3.9 is here, the target has 10.3.0" in found.reason
        assert BACKEND.can_build(OWN).usable


def test_without_a_gpu_nothing_is_built() -> None:
    with installed("10.3"):
        found = BACKEND.can_build(OWN)
    if found.usable:
        pytest.skip("left out: the target's GPU is here")
    assert "TensorRT builds for the GPU that it runs on: " in found.reason


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = BACKEND.can_build(ORIN)
    assert (found.usable, found.version) == (False, None)
    assert "it comes with JetPack" in found.reason


@pytest.mark.parametrize("version", VERSIONS)
def test_engines_are_built_run_and_looked_into(gpu: host_memory.HostMemory, version: str) -> None:
    graph = tensorrt_graphs.head("batch", 6 if version == "8.2" else 2)
    settings = BuildSettings(batches=(1, 2, 4))
    with installed(version):
        engine = BACKEND.build(graph, OWN, settings)
        assert engine.data[:4] == (b"ptrt" if version in ("8.2", "8.5") else b"ftrt")
        assert engine.flags["batches"] == [1, 2, 4]
        runner = BACKEND.load(engine.data, OWN)
        for count in (1, 4):
            inputs = [tensorrt_graphs.images(count)]
            np.testing.assert_array_equal(runner(inputs)[0], tensorrt_graphs.expected(graph, inputs)[0])
        runner.close()
        layers = BACKEND.inspect(engine.data, OWN)
        assert [layer.name for layer in layers] == [node.name for node in graph.graph.node]


def test_what_the_graph_declares_is_held_against_the_network(gpu: host_memory.HostMemory) -> None:
    graph = tensorrt_graphs.judged_graphs()["QuantizeLinear to uint8"]
    with installed("10.3"), pytest.raises(CoopexportError, match=r"makes output 'y' \(int8.* declares as .*uint8"):
        BACKEND.build(graph, OWN, BuildSettings())


def test_an_engine_that_was_built_elsewhere_is_refused(gpu: host_memory.HostMemory) -> None:
    with installed("10.3"):
        data = BACKEND.build(tensorrt_graphs.head(), OWN, BuildSettings()).data
    with installed("10.13"):
        for use in (BACKEND.load, BACKEND.inspect):
            with pytest.raises(CoopexportError, match="not compatible with this version of TensorRT"):
                use(data, OWN)
