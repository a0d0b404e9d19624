"""Device memory through cuda-python's bindings of the CUDA runtime (12.8 on: `cuda.bindings`)."""

from typing import Any, List

from jetson.cuda.device_memory import DeviceMemory, address_of, at_least_one
from jetson.errors import DeviceError, UnsupportedError, one_line


def open_memory() -> DeviceMemory:
    """Return memory on the current GPU; raises CoopexportError where cuda-python or a driver is missing."""
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError) as error:
        raise UnsupportedError("not usable ({})".format(one_line(error))) from None

    def ask(call: Any, *arguments: Any) -> Any:
        """Return what a call returns behind its error code; its words become ours."""
        code, *values = call(*arguments)
        if code != runtime.cudaError_t.cudaSuccess:
            _, text = runtime.cudaGetErrorString(code)
            said = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            raise DeviceError("CUDA says: {} ({})".format(said, one_line(code)))
        return (values[0] if len(values) == 1 else values) if values else None

    if not ask(runtime.cudaGetDeviceCount):
        raise DeviceError("no GPU is there")
    stream = ask(runtime.cudaStreamCreate)
    allocations = set()
    events: List[Any] = []

    def allocate(size_bytes: int) -> int:
        address = int(ask(runtime.cudaMalloc, at_least_one(size_bytes)))
        allocations.add(address)
        return address

    def free(address: int) -> None:
        allocations.remove(address)
        ask(runtime.cudaFree, address)

    def copy_to_device(address: int, array: Any) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        ask(runtime.cudaMemcpyAsync, address, address_of(array), array.nbytes, kind, stream)

    def copy_to_host(array: Any, address: int) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        ask(runtime.cudaMemcpyAsync, address_of(array), address, array.nbytes, kind, stream)

    def synchronize() -> None:
        ask(runtime.cudaStreamSynchronize, stream)

    def free_bytes() -> int:
        return int(ask(runtime.cudaMemGetInfo)[0])

    def make_event() -> Any:
        event = ask(runtime.cudaEventCreate)
        events.append(event)
        return event

    def record(event: Any) -> None:
        ask(runtime.cudaEventRecord, event, stream)

    def elapsed_ms(earlier: Any, later: Any) -> float:
        return float(ask(runtime.cudaEventElapsedTime, earlier, later))

    def close() -> None:
        for address in list(allocations):
            free(address)
        for event in events:
            ask(runtime.cudaEventDestroy, event)
        ask(runtime.cudaStreamDestroy, stream)

    return DeviceMemory(
        "cuda-python",
        allocate,
        free,
        copy_to_device,
        copy_to_host,
        synchronize,
        free_bytes,
        make_event,
        record,
        elapsed_ms,
        int(stream),
        close,
    )
