"""PyCUDA's driver module with the calls that it really has, over host memory.

Signatures as in PyCUDA 2020.1 on: `mem_alloc(bytes)`, `mem_get_info()`, `memcpy_htod_async(dest, src, stream=None)`,
`memcpy_dtoh_async(dest, src, stream=None)`, `Stream(flags=0)`, `Event(flags=0)`, `Event.record(stream=None)`,
`Event.time_till(event)`, `Device(number)`, `Context.push()`, `Context.pop()` (a static method), `Context.detach()`.
"""

import types

import numpy as np
from tensorrt_doubles.host_memory import process_memory


def make_driver(memory=None, usable=True, primary_context=True):
    """Return a double of `pycuda.driver`. `usable`: whether `init` finds a driver."""
    memory = memory or process_memory()
    driver = types.ModuleType("pycuda.driver")
    state = {"initialised": False, "contexts": []}

    class Error(Exception):
        """Base of all that CUDA says."""

    def check_current(call):
        if not state["initialised"]:
            raise Error("{} failed: initialization error".format(call))
        if not state["contexts"]:
            raise Error("{} failed: invalid device context".format(call))

    def init(flags=0):
        if not usable:
            raise Error("cuInit failed: no CUDA-capable device is detected")
        state["initialised"] = True

    class Context:
        """The device's primary context."""

        def __init__(self):
            self._retained = True

        def push(self):
            if not self._retained:
                raise Error("cuCtxPushCurrent failed: invalid device context")
            state["contexts"].append(self)

        def detach(self):
            memory._check(self._retained, "a context is detached twice")
            memory._check(not state["contexts"], "a context is detached while it is current")
            self._retained = False
            for stream in list(streams):
                memory.destroy_stream(stream)
                streams.remove(stream)

        @staticmethod
        def pop():
            check_current("cuCtxPopCurrent")
            state["contexts"].pop()

    class Device:
        """A GPU."""

        def __init__(self, number):
            if not state["initialised"] or number != 0:
                raise Error("cuDeviceGet failed: invalid device ordinal")

        if primary_context:

            def retain_primary_context(self):
                return Context()

    streams = []

    class Stream:
        """A stream."""

        def __init__(self, flags=0):
            check_current("cuStreamCreate")
            self.handle = memory.make_stream()
            streams.append(self.handle)

        def synchronize(self):
            check_current("cuStreamSynchronize")
            memory.synchronize(self.handle)

    class Event:
        """An event; it ends with its object, in its context."""

        def __init__(self, flags=0):
            check_current("cuEventCreate")
            self._handle = memory.make_event()

        def record(self, stream=None):
            check_current("cuEventRecord")
            if not isinstance(stream, Stream):
                raise TypeError("the double takes events on a stream only")
            memory.record_event(self._handle, stream.handle)
            return self

        def time_till(self, event):
            check_current("cuEventElapsedTime")
            found = memory.elapsed_ms(self._handle, event._handle)
            if found is None:
                raise Error("cuEventElapsedTime failed: device not ready")
            return found

        def __del__(self):
            memory._check(state["contexts"], "an event ends outside of its context")
            memory.destroy_event(self._handle)

    class DeviceAllocation:
        """Memory that is given back once."""

        def __init__(self, address):
            self._address = address

        def __int__(self):
            return self._address

        def free(self):
            check_current("cuMemFree")
            memory.free(self._address)

    def mem_alloc(bytes):
        check_current("cuMemAlloc")
        address = memory.allocate(bytes)
        if address is None:
            raise Error("cuMemAlloc failed: out of memory")
        return DeviceAllocation(address)

    def mem_get_info():
        check_current("cuMemGetInfo")
        return memory.information()

    def memcpy_htod_async(dest, src, stream=None):
        check_current("cuMemcpyHtoDAsync")
        _check_kinds(dest, src, stream, Stream, DeviceAllocation)
        memory.copy_in(int(dest), src, stream.handle)

    def memcpy_dtoh_async(dest, src, stream=None):
        check_current("cuMemcpyDtoHAsync")
        _check_kinds(src, dest, stream, Stream, DeviceAllocation)
        memory.copy_out(dest, int(src), stream.handle)

    for item in (
        Error,
        Device,
        Event,
        Stream,
        DeviceAllocation,
        init,
        mem_alloc,
        mem_get_info,
        memcpy_htod_async,
        memcpy_dtoh_async,
    ):
        setattr(driver, item.__name__, item)
    return driver


def _check_kinds(device, host, stream, stream_class, allocation_class):
    if not isinstance(device, (int, allocation_class)) or not isinstance(host, np.ndarray):
        raise TypeError("Python argument types did not match C++ signature")
    if not isinstance(stream, stream_class):
        raise TypeError("the double takes copies on a stream only")
