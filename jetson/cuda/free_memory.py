"""How much memory a GPU has free, and whether it is the processor's memory, too."""

from typing import Callable, NamedTuple, Optional

from jetson.cuda.choice import open_device_memory
from jetson.cuda.driver import shares_memory


class GpuMemory(NamedTuple):
    """How to ask a GPU. `free_bytes()`: what is free on it, for all programs; `shared`: with the processor (Jetson).

    `close()`: ends the context that was set up for it.
    """

    free_bytes: Callable[[], int]
    shared: bool
    close: Callable[[], None]


def open_gpu(shared: Optional[bool] = None) -> GpuMemory:
    """Return the current GPU, with CUDA's context set up on it, which takes memory of its own; raises CoopexportError.

    TensorRT works in the same context: what it takes is not counted for an engine that is loaded afterwards. `shared`:
    where the caller knows; None asks the driver.
    """
    is_shared = shares_memory() if shared is None else shared
    memory = open_device_memory()
    return GpuMemory(memory.free_bytes, is_shared, memory.close)
