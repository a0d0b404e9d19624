"""Device memory through PyCUDA, in the primary context: `pycuda.autoinit` would make one of its own."""

from typing import Any, Dict, List

from jetson.cuda.device_memory import DeviceMemory, address_of, at_least_one
from jetson.errors import DeviceError, UnsupportedError, one_line


def open_memory() -> DeviceMemory:
    """Return memory on the first GPU; raises CoopexportError where PyCUDA or its driver is not usable."""
    try:
        import pycuda.driver as driver
    except (ImportError, OSError) as error:
        raise UnsupportedError("not usable ({})".format(one_line(error))) from None
    device = _ask(driver, _first_device, driver)
    if not hasattr(device, "retain_primary_context"):
        raise UnsupportedError("this version of PyCUDA has no primary context (2020.1 is the first)")
    context = _ask(driver, device.retain_primary_context)
    allocations: Dict[int, Any] = {}
    events: List[Any] = []

    def within(function: Any, *arguments: Any) -> Any:
        # Pushed for each call: a context is current in one thread only, and engines may run in another.
        context.push()
        try:
            return _ask(driver, function, *arguments)
        finally:
            context.pop()

    stream = within(driver.Stream)

    def allocate(size_bytes: int) -> int:
        allocation = within(driver.mem_alloc, at_least_one(size_bytes))
        allocations[int(allocation)] = allocation
        return int(allocation)

    def free(address: int) -> None:
        within(allocations.pop(address).free)

    def copy_to_device(address: int, array: Any) -> None:
        address_of(array)
        within(driver.memcpy_htod_async, address, array, stream)

    def copy_to_host(array: Any, address: int) -> None:
        address_of(array)
        within(driver.memcpy_dtoh_async, array, address, stream)

    def synchronize() -> None:
        within(stream.synchronize)

    def free_bytes() -> int:
        return int(within(driver.mem_get_info)[0])

    def make_event() -> Any:
        event = within(driver.Event)
        events.append(event)  # gone before the context is
        return event

    def record(event: Any) -> None:
        within(event.record, stream)

    def elapsed_ms(earlier: Any, later: Any) -> float:
        return float(within(earlier.time_till, later))

    def close() -> None:
        for address in list(allocations):
            free(address)
        within(events.clear)
        context.detach()

    return DeviceMemory(
        "PyCUDA",
        allocate,
        free,
        copy_to_device,
        copy_to_host,
        synchronize,
        free_bytes,
        make_event,
        record,
        elapsed_ms,
        int(stream.handle),
        close,
    )


def _first_device(driver: Any) -> Any:
    driver.init()
    return driver.Device(0)


def _ask(driver: Any, function: Any, *arguments: Any) -> Any:
    """Return what a call of PyCUDA returns; its errors become ours."""
    try:
        return function(*arguments)
    except driver.Error as error:
        raise DeviceError("CUDA says: {}".format(one_line(error))) from None
