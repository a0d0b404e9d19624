"""On an NVIDIA GPU: what it computes is what the CPU computes. Run by `pytest -m gpu`."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
import tensorrt_graphs

from engines.backends.interface import Backend
from engines.backends.registry import find_backend
from engines.targets.lookup import Target, find_target
from jetson.cuda import library as cuda_library
from jetson.cuda.choice import open_device_memory
from jetson.cuda.driver import first_gpu
from jetson.cuda.free_memory import open_gpu
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.tensorrt_engines.runtime import EngineRunner

pytestmark = pytest.mark.gpu

HALF_ULP = 2.0**-10


def gpu_target(backend: str) -> Target:
    """Return this machine's GPU as a target of a backend; skips where it cannot be one."""
    try:
        gpu = first_gpu()
    except CoopexportError as error:
        pytest.skip(f"left out: {error}")
    target = Target("this-gpu", gpu.name, backend, compute_capability=gpu.compute_capability)
    available = find_backend(backend).can_run(target)
    if not available.usable:
        pytest.skip(f"left out: {available.reason}")
    return target


def compare(backend: Backend, target: Target, graph: onnx.ModelProto, settings: BuildSettings, bound: float) -> None:
    """Build, load and run a graph; its outputs' largest error must be within `bound` of their largest value."""
    runner = backend.load(backend.build(graph, target, settings).data, target)
    try:
        for count in sorted(set(settings.batches)):
            inputs = [tensorrt_graphs.images(count)]
            if graph.graph.input[0].name == "wire":
                inputs = [np.random.default_rng(count).integers(0, 16, (count, 4, 6, 6)).astype(np.uint8)]
            for found, wanted in zip(runner(inputs), tensorrt_graphs.expected(graph, inputs), strict=True):
                assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
                error = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()
                assert error <= bound * np.abs(wanted.astype(np.float64)).max()
    finally:
        runner.close()


def compare_symbols(backend: Backend, target: Target, settings: BuildSettings) -> None:
    """Build and run the head: no symbol may be off by more than one, and at most 1 % (a few of 576) at all."""
    graph = tensorrt_graphs.head("batch")
    runner = backend.load(backend.build(graph, target, settings).data, target)
    inputs = [tensorrt_graphs.images(4)]
    difference = np.abs(runner(inputs)[0].astype(int) - tensorrt_graphs.expected(graph, inputs)[0].astype(int))
    runner.close()
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


DYNAMIC = BuildSettings(batches=(1, 2, 4))


def test_the_cuda_provider_computes_what_the_cpu_does() -> None:
    backend, target = find_backend("onnxruntime"), find_target("cuda")
    available = backend.can_run(target)
    if not available.usable:
        pytest.skip(f"left out: {available.reason}")
    compare(backend, target, tensorrt_graphs.tail("batch"), DYNAMIC, 1e-5)
    compare_symbols(backend, target, DYNAMIC)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_computes_what_the_cpu_does(name: str) -> None:
    target, backend = gpu_target(name), find_backend(name)
    if target.compute_capability != "7.5":  # it has no float32 Gemm there
        compare(backend, target, tensorrt_graphs.tail("batch"), DYNAMIC, 1e-4)
    compare(backend, target, tensorrt_graphs.half("batch"), DYNAMIC._replace(precision="fp16"), 4 * HALF_ULP)
    compare(backend, target, tensorrt_graphs.quantised("batch"), DYNAMIC._replace(precision="int8"), 1e-2)
    compare_symbols(backend, target, DYNAMIC)
    layers = backend.inspect(backend.build(tensorrt_graphs.tail(), target, BuildSettings()).data, target)
    assert layers


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_events_add_up_to_less_than_the_call_that_they_are_in(name: str) -> None:
    target, backend = gpu_target(name), find_backend(name)
    graph = tensorrt_graphs.half("batch")
    runner = backend.load(backend.build(graph, target, DYNAMIC._replace(precision="fp16")).data, target)
    assert isinstance(runner, EngineRunner)
    runner.trace()
    inputs = [tensorrt_graphs.images(4)]
    for _ in range(20):
        started = time.perf_counter()
        runner(inputs)
        call_ms = 1000 * (time.perf_counter() - started)
        times = runner.gpu_times()
        assert times is not None
        assert min(times[:3]) >= 0
        assert 0 < sum(times[:3]) <= call_ms
        assert times.enqueue is None or 0 < times.enqueue <= call_ms
    runner.close()


def test_an_engine_on_a_gpu_needs_memory_of_it() -> None:
    try:
        gpu = open_gpu()
    except CoopexportError as error:
        pytest.skip(f"left out: {error}")
    memory = open_device_memory()
    before = gpu.free_bytes()
    address = memory.allocate(256 << 20)
    taken = before - gpu.free_bytes()
    memory.free(address)
    memory.close()
    gpu.close()
    assert 256 << 20 <= taken < 512 << 20


def test_device_memory_keeps_what_it_is_given() -> None:
    try:
        first_gpu()
    except CoopexportError as error:
        pytest.skip(f"left out: {error}")
    for opener in (open_device_memory, cuda_library.open_memory):
        memory = opener()
        head_outputs = np.arange(1000, dtype=np.float32)
        found = np.zeros_like(head_outputs)
        address = memory.allocate(head_outputs.nbytes)
        memory.copy_to_device(address, head_outputs)
        memory.copy_to_host(found, address)
        memory.synchronize()
        np.testing.assert_array_equal(found, head_outputs)
        memory.free(address)
        memory.close()
