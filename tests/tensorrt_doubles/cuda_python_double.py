"""cuda-python's `cuda.bindings.runtime` with the calls that it really has: results come behind an error code."""

import ctypes
import types

from tensorrt_doubles.host_memory import process_memory
from tensorrt_doubles.strict_classes import check_type, enumeration


def make_runtime(memory=None, gpus=1):
    """Return a double of `cuda.bindings.runtime` with `gpus` GPUs; None stands for a driver that is missing."""
    memory = memory or process_memory()
    runtime = types.ModuleType("cuda.bindings.runtime")
    numbers = {
        "cudaSuccess": 0,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorInsufficientDriver": 35,
        "cudaErrorNotReady": 600,
    }
    runtime.cudaError_t = enumeration("cudaError_t", numbers)
    runtime.cudaMemcpyKind = enumeration("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    success = runtime.cudaError_t.cudaSuccess

    class cudaStream_t:
        """A stream's handle."""

        def __init__(self, handle):
            self._handle = handle

        def __int__(self):
            return self._handle

    class cudaEvent_t(cudaStream_t):
        """An event's handle."""

    def cudaEventCreate():
        return success, cudaEvent_t(memory.make_event())

    def cudaEventRecord(event, stream):
        check_type("cudaEventRecord", event, cudaEvent_t)
        check_type("cudaEventRecord", stream, cudaStream_t)
        memory.record_event(int(event), int(stream))
        return (success,)

    def cudaEventElapsedTime(start, end):
        check_type("cudaEventElapsedTime", start, cudaEvent_t)
        check_type("cudaEventElapsedTime", end, cudaEvent_t)
        found = memory.elapsed_ms(int(start), int(end))
        return (runtime.cudaError_t.cudaErrorNotReady, None) if found is None else (success, found)

    def cudaEventDestroy(event):
        check_type("cudaEventDestroy", event, cudaEvent_t)
        memory.destroy_event(int(event))
        return (success,)

    def cudaGetDeviceCount():
        if gpus is None:
            return runtime.cudaError_t.cudaErrorInsufficientDriver, None
        return success, gpus

    def cudaGetErrorString(error):
        check_type("cudaGetErrorString", error, runtime.cudaError_t)
        return success, error.name.encode()

    def cudaMalloc(size):
        check_type("cudaMalloc", size, int)
        address = memory.allocate(size)
        return (runtime.cudaError_t.cudaErrorMemoryAllocation, None) if address is None else (success, address)

    def cudaFree(devPtr):
        check_type("cudaFree", devPtr, int)
        memory.free(devPtr)
        return (success,)

    def cudaMemGetInfo():
        return (success, *memory.information())

    def cudaMemcpyAsync(dst, src, count, kind, stream):
        check_type("cudaMemcpyAsync", dst, int)
        check_type("cudaMemcpyAsync", src, int)
        check_type("cudaMemcpyAsync", kind, runtime.cudaMemcpyKind)
        check_type("cudaMemcpyAsync", stream, cudaStream_t)
        copy_raw(memory, dst, src, count, kind.value, int(stream))
        return (success,)

    def cudaStreamCreate():
        return success, cudaStream_t(memory.make_stream())

    def cudaStreamSynchronize(stream):
        check_type("cudaStreamSynchronize", stream, cudaStream_t)
        memory.synchronize(int(stream))
        return (success,)

    def cudaStreamDestroy(stream):
        check_type("cudaStreamDestroy", stream, cudaStream_t)
        memory.destroy_stream(int(stream))
        return (success,)

    for item in (cudaGetDeviceCount, cudaGetErrorString, cudaMalloc, cudaFree, cudaMemGetInfo, cudaMemcpyAsync):
        setattr(runtime, item.__name__, item)
    for item in (cudaEventCreate, cudaEventRecord, cudaEventElapsedTime, cudaEventDestroy):
        setattr(runtime, item.__name__, item)
    for item in (cudaStreamCreate, cudaStreamSynchronize, cudaStreamDestroy):
        setattr(runtime, item.__name__, item)
    return runtime


def copy_raw(memory, to, source, size, kind, stream):
    """Queue cudaMemcpyAsync's copy between addresses; `kind` 1 goes to the device, 2 to the host."""
    if kind == 1:
        memory._check(size <= memory.room(to), "a copy of {} bytes past an end".format(size))
        memory.queue(stream, lambda: memory.write(to, ctypes.string_at(source, size)), "in")
    elif kind == 2:
        memory._check(size <= memory.room(source), "a copy of {} bytes past an end".format(size))
        memory.queue(stream, lambda: ctypes.memmove(to, memory.read(source, size), size), "out")
    else:
        raise memory._misuse("a copy of kind {}".format(kind))
