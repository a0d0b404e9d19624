"""Device memory: the few calls on it that running an engine takes."""

from typing import Any, Callable, NamedTuple

import numpy as np


class DeviceMemory(NamedTuple):
    """One stream and the calls on memory, all in the primary context, the one that TensorRT works in.

    `how`: which library the calls go through, in words. Addresses and `stream` are integers, as TensorRT takes them.
    `allocate(bytes)` returns an address, also for nothing; `copy_to_device(address, array)` and `copy_to_host(array,
    address)` take contiguous NumPy arrays and are queued on the stream: the arrays stay as they are until
    `synchronize()` returns. `free_bytes()`: what the GPU has free, for all
    programs. `record(event)` queues an event of `make_event()` on the stream; `elapsed_ms(earlier, later)` is the time
    between two that have happened, in milliseconds. Every call raises CoopexportError with CUDA's own words.
    """

    how: str
    allocate: Callable[[int], int]
    free: Callable[[int], None]
    copy_to_device: Callable[[int, Any], None]
    copy_to_host: Callable[[Any, int], None]
    synchronize: Callable[[], None]
    free_bytes: Callable[[], int]
    make_event: Callable[[], Any]
    record: Callable[[Any], None]
    elapsed_ms: Callable[[Any, Any], float]
    stream: int
    close: Callable[[], None]


def address_of(array: Any) -> int:
    """Return where a host array begins; raises ValueError for one that is not contiguous."""
    if not isinstance(array, np.ndarray) or not array.flags["C_CONTIGUOUS"]:
        raise ValueError("only contiguous arrays can be copied as they are")
    return int(array.ctypes.data)


def at_least_one(size_bytes: int) -> int:
    """Return a size that CUDA allocates an address for; it has none for nothing."""
    return max(1, size_bytes)
