"""Three ways to device memory, each through exactly the calls that it really has, and the choice between them."""

import ctypes
import itertools
import sys
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorrt_doubles.cuda_python_double import make_runtime
from tensorrt_doubles.cudart_double import CudaRuntime
from tensorrt_doubles.host_memory import TOTAL_BYTES, HostMemory, Misuse
from tensorrt_doubles.pycuda_double import make_driver

from jetson.cuda import choice as cuda_choice
from jetson.cuda import cuda_python_memory as cuda_python
from jetson.cuda import driver as cuda_driver
from jetson.cuda import library as cuda_library
from jetson.cuda import pycuda_memory as cuda_pycuda
from jetson.cuda.device_memory import address_of
from jetson.cuda.free_memory import open_gpu
from jetson.errors import CoopexportError

WAYS = {"PyCUDA": cuda_pycuda, "cuda-python": cuda_python, "the CUDA runtime's library": cuda_library}
ALL = pytest.mark.parametrize("way", WAYS)


def put(monkeypatch, name, module):
    """Have a dotted module imported; None takes it away."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        parent = ".".join(parts[:count])
        package = types.ModuleType(parent)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, parent, package)
    monkeypatch.setitem(sys.modules, name, module)
    if module is not None:
        setattr(sys.modules[name.rpartition(".")[0]], parts[-1], module)


def provide(monkeypatch, memory, way, works=True, **options):
    """Put the double of one way in place, with a driver or without, and take the others away."""
    driver = make_driver(memory, usable=works, **options) if way == "PyCUDA" else None
    put(monkeypatch, "pycuda.driver", driver)
    runtime = make_runtime(memory, 1 if works else None) if way == "cuda-python" else None
    put(monkeypatch, "cuda.bindings.runtime", runtime)
    asked = []

    def load(name):
        asked.append(name)
        if way != "the CUDA runtime's library" or name != "libcudart.so.11.0":
            raise OSError(f"{name}: cannot open shared object file")
        return CudaRuntime(memory, 1 if works else None)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return asked


@pytest.fixture
def memory():
    """Host memory that must be clean in the end."""
    found = HostMemory()
    yield found
    found.check_clean()


@ALL
def test_what_is_copied_in_comes_out(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    assert opened.how == way
    sent, found = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros((2, 3, 4), np.float32)
    address = opened.allocate(sent.nbytes)
    assert isinstance(address, int)
    assert isinstance(opened.stream, int)
    opened.copy_to_device(address, sent)
    opened.copy_to_host(found, address)
    opened.synchronize()
    np.testing.assert_array_equal(found, sent)
    opened.free(address)
    opened.close()


@ALL
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 64), max_size=6), data=st.data())
def test_any_allocations_given_back_in_any_order(monkeypatch, way, sizes, data):
    memory = HostMemory()
    with monkeypatch.context() as patched:
        provide(patched, memory, way)
        opened = cuda_choice.open_device_memory()
        addresses = [opened.allocate(size) for size in sizes]
        assert len(set(addresses)) == len(addresses)
        sent = [np.full(size, size, np.uint8) for size in sizes]  # alive until the stream has done its work
        for array, address in zip(sent, addresses, strict=True):
            opened.copy_to_device(address, array)
        opened.synchronize()
        for size, address in data.draw(st.permutations(list(zip(sizes, addresses, strict=True)))):
            assert memory.read(address, size) == bytes([size]) * size
            opened.free(address)
        opened.close()
        memory.check_clean()


@ALL
def test_what_is_free_is_told(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    before = opened.free_bytes()
    assert before == TOTAL_BYTES
    address = opened.allocate(5000)
    assert opened.free_bytes() == before - 5000
    opened.free(address)
    assert opened.free_bytes() == before
    opened.close()


@pytest.mark.parametrize(("integrated", "shared"), [(0, False), (1, True)])
def test_whether_a_gpu_works_in_the_processors_memory_is_the_drivers_to_say(monkeypatch, memory, integrated, shared):
    provide(monkeypatch, memory, "PyCUDA")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(integrated=integrated))
    gpu = open_gpu()
    assert (gpu.shared, gpu.free_bytes()) == (shared, TOTAL_BYTES)
    gpu.close()
    known = open_gpu(shared=not shared)  # who knows the board need not ask
    assert known.shared is not shared
    known.close()


@ALL
def test_events_tell_copies_apart(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    memory.durations_ms = {"in": 0.25, "out": 0.5}
    opened = cuda_choice.open_device_memory()
    events = [opened.make_event() for _ in range(3)]
    array = np.zeros(8, np.float32)
    address = opened.allocate(array.nbytes)
    opened.record(events[0])
    opened.copy_to_device(address, array)
    opened.copy_to_device(address, array)
    opened.record(events[1])
    opened.copy_to_host(array, address)
    opened.record(events[2])
    with pytest.raises(CoopexportError, match=r"CUDA says: .*(not ready|NotReady)"):
        opened.elapsed_ms(events[0], events[1])
    opened.synchronize()
    assert [opened.elapsed_ms(*pair) for pair in itertools.pairwise(events)] == [0.5, 0.5]
    assert opened.elapsed_ms(events[0], events[2]) == 1.0
    del events
    opened.close()


@ALL
def test_closing_gives_back_what_is_left(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    opened.allocate(10)
    opened.allocate(0)
    opened.close()


@ALL
def test_what_cuda_says_is_passed_on(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    memory.limit_bytes = 100
    with pytest.raises(CoopexportError, match=r"CUDA says: .*(out of memory|cudaErrorMemoryAllocation)"):
        opened.allocate(101)
    opened.free(opened.allocate(100))
    opened.close()


@ALL
def test_a_missing_driver_is_named(monkeypatch, memory, way):
    provide(monkeypatch, memory, way, works=False)
    with pytest.raises(CoopexportError, match="there is no device memory here") as refusal:
        cuda_choice.open_device_memory()
    for name in WAYS:
        assert f"{name}: " in str(refusal.value)
    assert any(word in str(refusal.value) for word in ("no CUDA-capable", "InsufficientDriver", "insufficient"))


@ALL
def test_only_contiguous_arrays_are_copied(monkeypatch, memory, way):
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    address = opened.allocate(64)
    strided, by_column = np.zeros((4, 4), np.float32)[:, ::2], np.zeros((4, 4), np.float32, order="F")
    for array in (strided, by_column):
        with pytest.raises(ValueError, match="contiguous"):
            opened.copy_to_device(address, array)
        with pytest.raises(ValueError, match="contiguous"):
            opened.copy_to_host(array, address)
    opened.close()
    with pytest.raises(ValueError, match="contiguous"):
        address_of(b"no array")


@ALL
def test_the_double_notices_what_a_device_would_not(monkeypatch, way):
    memory = HostMemory()
    provide(monkeypatch, memory, way)
    opened = cuda_choice.open_device_memory()
    address = opened.allocate(8)
    with pytest.raises(Misuse, match="past an end"):
        opened.copy_to_device(address, np.zeros(9, np.uint8))


def test_pycuda_comes_first_and_the_library_last(monkeypatch, memory):
    assert [name for name, _ in cuda_choice.WAYS] == list(WAYS)
    provide(monkeypatch, memory, "PyCUDA")
    runtime = make_runtime(memory)
    put(monkeypatch, "cuda.bindings.runtime", runtime)
    opened = cuda_choice.open_device_memory()
    assert opened.how == "PyCUDA"
    opened.close()


def test_an_old_pycuda_gives_way_to_the_library(monkeypatch, memory):
    """Without the primary context, TensorRT and PyCUDA would work in two contexts."""
    asked = provide(monkeypatch, memory, "the CUDA runtime's library")
    put(monkeypatch, "pycuda.driver", make_driver(memory, primary_context=False))
    opened = cuda_choice.open_device_memory()
    assert opened.how == "the CUDA runtime's library"
    assert asked == ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"]
    opened.close()


def test_pycuda_leaves_no_context_current(monkeypatch, memory):
    """An engine may run in another thread than the one that loaded it."""
    provide(monkeypatch, memory, "PyCUDA")
    opened = cuda_choice.open_device_memory()
    driver = sys.modules["pycuda.driver"]
    with pytest.raises(driver.Error, match="invalid device context"):
        driver.mem_alloc(4)
    opened.close()


class Driver:
    """libcuda with one GPU, as cuda.h has it."""

    def __init__(self, gpus=1, status=0, integrated=1):
        self.gpus, self.status, self.integrated = gpus, status, integrated

    def cuInit(self, flags):  # noqa: N802
        assert flags == 0
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        assert len(name) == length
        name.value = b"NVIDIA Orin"
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {75: 8, 76: 7, 18: self.integrated}[attribute]
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060
        return 0


def test_the_driver_tells_of_its_gpu(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert cuda_driver.first_gpu() == ("NVIDIA Orin", "8.7", "12.6")


@pytest.mark.parametrize(
    ("driver", "said"),
    [(Driver(gpus=0), "sees no GPU"), (Driver(status=100), r"cuInit returned 100"), (None, "no NVIDIA driver")],
)
def test_no_gpu_is_said_to_be_none(monkeypatch, driver, said):
    def load(name):
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(CoopexportError, match=said):
        cuda_driver.first_gpu()
