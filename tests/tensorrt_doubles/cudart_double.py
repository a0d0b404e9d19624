"""CUDA's runtime library as ctypes loads it, over host memory; prototypes of cuda_runtime_api.h checked."""

import ctypes

from tensorrt_doubles.cuda_python_double import copy_raw
from tensorrt_doubles.host_memory import process_memory

_POINTER_OUT = ctypes.POINTER(ctypes.c_void_p)
_PROTOTYPES = {
    "cudaGetDeviceCount": ([ctypes.POINTER(ctypes.c_int)], ctypes.c_int),
    "cudaGetErrorString": ([ctypes.c_int], ctypes.c_char_p),
    "cudaMalloc": ([_POINTER_OUT, ctypes.c_size_t], ctypes.c_int),
    "cudaFree": ([ctypes.c_void_p], ctypes.c_int),
    "cudaMemGetInfo": ([ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)], ctypes.c_int),
    "cudaMemcpyAsync": (
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p], ctypes.c_int,
    ),
    "cudaStreamCreate": ([_POINTER_OUT], ctypes.c_int),
    "cudaStreamSynchronize": ([ctypes.c_void_p], ctypes.c_int),
    "cudaStreamDestroy": ([ctypes.c_void_p], ctypes.c_int),
    "cudaEventCreate": ([_POINTER_OUT], ctypes.c_int),
    "cudaEventRecord": ([ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int),
    "cudaEventElapsedTime": ([ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p], ctypes.c_int),
    "cudaEventDestroy": ([ctypes.c_void_p], ctypes.c_int),
}  # fmt: skip
_NO_MEMORY, _NO_DRIVER, _NOT_READY = 2, 35, 600


class _Function:
    """One function of the library. Called without the header's own prototype, it would read garbage."""

    def __init__(self, name, implementation):
        self.argtypes, self.restype = None, ctypes.c_int
        self._name, self._implementation = name, implementation

    def __call__(self, *arguments):
        wanted, result = _PROTOTYPES[self._name]
        assert list(self.argtypes or ()) == wanted, "{} is called with another prototype".format(self._name)
        assert self.restype is result, "{} returns something else".format(self._name)
        assert len(arguments) == len(wanted), "{} takes {} arguments".format(self._name, len(wanted))
        for kind, value in zip(wanted, arguments):
            kind.from_param(value)
        return self._implementation(*arguments)


class CudaRuntime:
    """The loaded library, with `gpus` GPUs; None stands for a driver that is missing."""

    def __init__(self, memory=None, gpus=1):
        self._memory, self._gpus = memory or process_memory(), gpus
        for name in _PROTOTYPES:
            setattr(self, name, _Function(name, getattr(self, "_" + name)))

    def _cudaGetDeviceCount(self, count):
        if self._gpus is None:
            return _NO_DRIVER
        count._obj.value = self._gpus
        return 0

    def _cudaGetErrorString(self, error):
        texts = {_NO_MEMORY: b"out of memory", _NO_DRIVER: b"CUDA driver version is insufficient",
                 _NOT_READY: b"device not ready"}  # fmt: skip
        return texts.get(error, b"unknown error")

    def _cudaMalloc(self, pointer, size):
        address = self._memory.allocate(size)
        pointer._obj.value = address
        return _NO_MEMORY if address is None else 0

    def _cudaFree(self, address):
        self._memory.free(address)
        return 0

    def _cudaMemGetInfo(self, free, total):
        free._obj.value, total._obj.value = self._memory.information()
        return 0

    def _cudaMemcpyAsync(self, to, source, size, kind, stream):
        copy_raw(self._memory, to, source, size, kind, stream.value)
        return 0

    def _cudaStreamCreate(self, pointer):
        pointer._obj.value = self._memory.make_stream()
        return 0

    def _cudaEventCreate(self, pointer):
        pointer._obj.value = self._memory.make_event()
        return 0

    def _cudaEventRecord(self, event, stream):
        self._memory.record_event(event.value, stream.value)
        return 0

    def _cudaEventElapsedTime(self, pointer, start, end):
        found = self._memory.elapsed_ms(start.value, end.value)
        if found is None:
            return _NOT_READY
        pointer._obj.value = found
        return 0

    def _cudaEventDestroy(self, event):
        self._memory.destroy_event(event.value)
        return 0

    def _cudaStreamSynchronize(self, stream):
        self._memory.synchronize(stream.value)
        return 0

    def _cudaStreamDestroy(self, stream):
        self._memory.destroy_stream(stream.value)
        return 0
