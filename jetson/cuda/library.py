"""Device memory through the CUDA runtime's shared library, with nothing but the standard library.

Prototypes as in cuda_runtime_api.h, the same from CUDA 10.2 to 13.
"""

import ctypes
from typing import Any, List, Sequence

from jetson.cuda.device_memory import DeviceMemory, address_of, at_least_one
from jetson.errors import DeviceError, UnsupportedError

# Its names from CUDA 13 to JetPack 4's 10.2; the last one is there with the development files only.
NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_POINTER_OUT = ctypes.POINTER(ctypes.c_void_p)
_PROTOTYPES = {
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaMalloc": (_POINTER_OUT, ctypes.c_size_t),
    "cudaFree": (ctypes.c_void_p,),
    "cudaMemGetInfo": (ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)),
    "cudaMemcpyAsync": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p),
    "cudaStreamCreate": (_POINTER_OUT,),
    "cudaStreamSynchronize": (ctypes.c_void_p,),
    "cudaStreamDestroy": (ctypes.c_void_p,),
    "cudaEventCreate": (_POINTER_OUT,),
    "cudaEventRecord": (ctypes.c_void_p, ctypes.c_void_p),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p),
    "cudaEventDestroy": (ctypes.c_void_p,),
}


def open_memory(names: Sequence[str] = NAMES) -> DeviceMemory:
    """Return memory on the current GPU; raises CoopexportError when no library of `names` or no GPU is there."""
    library = _load(names)

    def ask(call: str, *arguments: Any) -> None:
        code = getattr(library, call)(*arguments)
        if code != 0:
            said = library.cudaGetErrorString(code).decode("utf-8", "replace")
            raise DeviceError("CUDA says: {} ({} returned {})".format(said, call, code))

    count = ctypes.c_int()
    ask("cudaGetDeviceCount", ctypes.byref(count))
    if not count.value:
        raise DeviceError("no GPU is there")
    stream = ctypes.c_void_p()
    ask("cudaStreamCreate", ctypes.byref(stream))
    allocations = set()
    events: List[Any] = []

    def allocate(size_bytes: int) -> int:
        address = ctypes.c_void_p()
        ask("cudaMalloc", ctypes.byref(address), at_least_one(size_bytes))
        allocations.add(int(address.value or 0))
        return int(address.value or 0)

    def free(address: int) -> None:
        allocations.remove(address)
        ask("cudaFree", address)

    def copy_to_device(address: int, array: Any) -> None:
        ask("cudaMemcpyAsync", address, address_of(array), array.nbytes, _TO_DEVICE, stream)

    def copy_to_host(array: Any, address: int) -> None:
        ask("cudaMemcpyAsync", address_of(array), address, array.nbytes, _TO_HOST, stream)

    def synchronize() -> None:
        ask("cudaStreamSynchronize", stream)

    def free_bytes() -> int:
        left, total = ctypes.c_size_t(), ctypes.c_size_t()
        ask("cudaMemGetInfo", ctypes.byref(left), ctypes.byref(total))
        return int(left.value)

    def make_event() -> Any:
        event = ctypes.c_void_p()
        ask("cudaEventCreate", ctypes.byref(event))
        events.append(event)
        return event

    def record(event: Any) -> None:
        ask("cudaEventRecord", event, stream)

    def elapsed_ms(earlier: Any, later: Any) -> float:
        found = ctypes.c_float()
        ask("cudaEventElapsedTime", ctypes.byref(found), earlier, later)
        return float(found.value)

    def close() -> None:
        for address in list(allocations):
            free(address)
        for event in events:
            ask("cudaEventDestroy", event)
        ask("cudaStreamDestroy", stream)

    return DeviceMemory(
        "the CUDA runtime's library",
        allocate,
        free,
        copy_to_device,
        copy_to_host,
        synchronize,
        free_bytes,
        make_event,
        record,
        elapsed_ms,
        int(stream.value or 0),
        close,
    )


def _load(names: Sequence[str]) -> Any:
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for call, arguments in _PROTOTYPES.items():
            function = getattr(library, call)
            function.argtypes, function.restype = arguments, ctypes.c_int
        library.cudaGetErrorString.argtypes = (ctypes.c_int,)
        library.cudaGetErrorString.restype = ctypes.c_char_p
        return library
    raise UnsupportedError("none of {} is found".format(", ".join(names)))
