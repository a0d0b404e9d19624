"""What the NVIDIA driver says of the first GPU, without CUDA's own packages: its library comes with the driver.

Prototypes and attribute numbers as in cuda.h (driver API), the same from CUDA 10.2 to 13.
"""

import ctypes
from typing import Any, NamedTuple, Tuple

from jetson.errors import DeviceError

LIBRARY = "libcuda.so.1"

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
_NAME_BYTES = 256


class Gpu(NamedTuple):
    """`name`: "NVIDIA GeForce RTX 4090"; `compute_capability`: "8.9"; `cuda`: "12.6", the driver's newest."""

    name: str
    compute_capability: str
    cuda: str


def first_gpu(library_name: str = LIBRARY) -> Gpu:
    """Return the first GPU; raises CoopexportError where there is no driver or no GPU. Takes no memory on it."""
    library, device = _open(library_name)
    version = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _ask(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    _ask(library, "cuDriverGetVersion", ctypes.byref(version))
    capability = "{}.{}".format(_attribute(library, _MAJOR, device), _attribute(library, _MINOR, device))
    cuda = "{}.{}".format(version.value // 1000, version.value % 1000 // 10)
    return Gpu(name.value.decode("utf-8", "replace"), capability, cuda)


def shares_memory(library_name: str = LIBRARY) -> bool:
    """Tell whether the first GPU works in the processor's memory, as a Jetson's does; raises as `first_gpu` does."""
    library, device = _open(library_name)
    return _attribute(library, _INTEGRATED, device) != 0


def _open(library_name: str) -> Tuple[Any, ctypes.c_int]:
    """Return the driver's library, ready, and its first device."""
    try:
        library = ctypes.CDLL(library_name)
    except OSError:
        raise DeviceError("no NVIDIA driver is installed here ({} is not found)".format(library_name)) from None
    _ask(library, "cuInit", 0)
    count, device = ctypes.c_int(), ctypes.c_int()
    _ask(library, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise DeviceError("the NVIDIA driver sees no GPU here")
    _ask(library, "cuDeviceGet", ctypes.byref(device), 0)
    return library, device


def _attribute(library: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _ask(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


def _ask(library: Any, call: str, *arguments: Any) -> None:
    code = getattr(library, call)(*arguments)
    if code != 0:
        raise DeviceError("the NVIDIA driver does not work here ({} returned {})".format(call, code))
