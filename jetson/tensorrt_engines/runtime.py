"""Engines, loaded and run: 8.2's bindings and the tensors of 8.5 on, static and dynamic batch."""

import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from jetson.cuda.choice import open_device_memory
from jetson.cuda.device_memory import DeviceMemory
from jetson.cuda.gpu_times import GpuTimes
from jetson.errors import DeviceError, InputError, UnsupportedError
from jetson.tensorrt_engines.io_tensors import IOTensor, Shape, has_tensors, io_tensors, set_input_shape, shape_now
from jetson.tensorrt_engines.library import Library, make
from jetson.tensorrt_engines.tensor_info import DYNAMIC, TensorInfo

# Events of a traced call, in their order on the stream.
_BEGIN, _COPIED, _COMPUTED, _END = range(4)
_NUMPY_DTYPES = ("float32", "float16", "int8", "int32", "int64", "uint8", "bool")


def load_engine(
    library: Library,
    data: bytes,
    memory: Optional[DeviceMemory] = None,
    dla_core: Optional[int] = None,
    input_names: Optional[Sequence[str]] = None,
    output_names: Optional[Sequence[str]] = None,
) -> "EngineRunner":
    """Return the engine in `data`, ready to run: an engine file's own bytes, checked by the caller beforehand.

    Loading runs what is in an engine: hand over only bytes whose identity was checked. `memory`: device memory to
    use, which stays the caller's; None opens one. `dla_core`: for an engine that was built for the DLA.
    `input_names` and `output_names`: in which order the runner takes and gives; None is the engine's own.
    Raises CoopexportError with TensorRT's own words when it does not take the engine.
    """
    library.forget()
    runtime = make(library, library.module.Runtime)
    if dla_core is not None:
        runtime.DLA_core = dla_core
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise UnsupportedError(
            "{} {} does not take this engine: {}".format(
                library.title, library.version, library.said("it does not say why")
            ),
            fix="build it again on this machine, or mend its driver",
        )
    tensors = io_tensors(library.module, engine)
    for item in tensors:
        if item.info.dtype not in _NUMPY_DTYPES:
            raise UnsupportedError("{} is of a dtype that NumPy does not have".format(item.info))
    context = engine.create_execution_context()
    if context is None:
        raise DeviceError(
            "{} cannot make room to run this engine: {}".format(library.title, library.said("it does not say why"))
        )
    inputs = _in_order([item for item in tensors if item.is_input], input_names)
    outputs = _in_order([item for item in tensors if not item.is_input], output_names)
    return EngineRunner(library, (runtime, engine, context), (inputs, outputs), memory)


def _in_order(tensors: List[IOTensor], names: Optional[Sequence[str]]) -> List[IOTensor]:
    """Return `tensors` in the order of `names`, which must be theirs."""
    if names is None:
        return tensors
    found = {item.info.name: item for item in tensors}
    if sorted(found) != sorted(names):
        raise InputError(
            "the engine has the tensors {}, expected {}; it is another network's".format(
                ", ".join(sorted(found)), ", ".join(names)
            )
        )
    return [found[name] for name in names]


class EngineRunner:
    """A loaded engine: call it with the inputs' arrays, in `inputs`' order, to get the outputs'. One call at a time.

    `inputs` and `outputs`: what it takes and gives, -1 where the batch is given by the call. Close it after use.
    """

    def __init__(
        self,
        library: Library,
        loaded: Tuple[Any, Any, Any],
        tensors: Tuple[List[IOTensor], List[IOTensor]],
        memory: Optional[DeviceMemory],
    ) -> None:
        self._library = library
        self._runtime, self._engine, self._context = loaded
        self._inputs, self._outputs = tensors
        # In the engine's own order, which is that of the list of addresses.
        self._ends = sorted(self._inputs + self._outputs, key=lambda item: item.position)
        self._owns_memory = memory is None
        self._memory = open_device_memory() if memory is None else memory
        self._addresses: Dict[int, int] = {}
        self._closed = False
        self._events: List[Any] = []
        self._enqueue_ms: Optional[float] = None
        self._has_times = False
        try:
            self._allocate()
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> List[TensorInfo]:
        """Return the inputs."""
        return [item.info for item in self._inputs]

    @property
    def outputs(self) -> List[TensorInfo]:
        """Return the outputs."""
        return [item.info for item in self._outputs]

    @property
    def engine(self) -> Any:
        """Return TensorRT's own engine object, for inspection."""
        return self._engine

    @property
    def memory_how(self) -> str:
        """Return in words which library device memory goes through."""
        return self._memory.how

    def __call__(self, arrays: Sequence[Any]) -> List[Any]:
        """Return the outputs for `arrays`, as arrays of their own.

        Raises CoopexportError when an array is not what the engine takes, or with TensorRT's words when it fails; the
        engine can be called again after either.
        """
        if self._closed:
            raise InputError("this engine is closed", fix="load it again")
        checked = self._checked(arrays)
        self._library.forget()
        self._has_times = False
        for item, array in _pairs(self._inputs, checked):
            if DYNAMIC in item.info.shape and not set_input_shape(self._context, item, array.shape):
                raise self._failure("does not take shape {} for {}".format(array.shape, item.info))
        self._mark(_BEGIN)
        for item, array in _pairs(self._inputs, checked):
            self._memory.copy_to_device(self._addresses[item.position], array)
        self._mark(_COPIED)
        if not self._execute():
            self._memory.synchronize()
            raise self._failure("failed to run the engine")
        self._mark(_COMPUTED)
        found = [np.empty(shape_now(self._context, item), item.info.dtype) for item in self._outputs]
        for item, array in _pairs(self._outputs, found):
            self._memory.copy_to_host(array, self._addresses[item.position])
        self._mark(_END)
        self._memory.synchronize()
        self._has_times = bool(self._events)
        return found

    def trace(self) -> None:
        """Let each call from now on leave times: four events on the stream, a few microseconds of the call."""
        if not self._events:
            self._events = [self._memory.make_event() for _ in range(_END + 1)]

    def gpu_times(self) -> Optional[GpuTimes]:
        """Return what the last call was made of; None where it left no times, as it failed or nobody called `trace`.

        The clock of events has a resolution of half a microsecond (CUDA Runtime API, cudaEventElapsedTime).
        """
        if not self._has_times:
            return None
        parts = [self._memory.elapsed_ms(self._events[index], self._events[index + 1]) for index in range(_END)]
        return GpuTimes(parts[0], parts[1], parts[2], self._enqueue_ms)

    def close(self) -> None:
        """Give memory and engine back; closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        for address in self._addresses.values():
            self._memory.free(address)
        self._addresses = {}
        self._events, self._has_times = [], False
        # Before the memory's library goes: their own memory is given back by it.
        self._context = self._engine = self._runtime = None
        if self._owns_memory:
            self._memory.close()

    def _allocate(self) -> None:
        """Allocate every input and output for its largest shape, and tell the context where."""
        for item in self._inputs:
            if DYNAMIC in item.info.shape and not set_input_shape(self._context, item, _max_shape(item)):
                raise self._failure("does not take the largest shape of {}".format(item.info))
        for item in self._ends:
            shape = _max_shape(item) if item.is_input else shape_now(self._context, item)
            if DYNAMIC in shape:
                raise UnsupportedError(
                    "the size of output {} is known only after a run".format(item.info), fix="export it fixed"
                )
            size_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(item.info.dtype).itemsize
            self._addresses[item.position] = self._memory.allocate(size_bytes)
        if has_tensors(self._engine):
            for item in self._ends:
                if not self._context.set_tensor_address(item.info.name, self._addresses[item.position]):
                    raise self._failure("does not take memory for {}".format(item.info))

    def _mark(self, which: int) -> None:
        if self._events:
            self._memory.record(self._events[which])

    def _execute(self) -> bool:
        if hasattr(self._context, "execute_async_v3"):
            started = time.perf_counter()
            accepted = bool(self._context.execute_async_v3(self._memory.stream))
            self._enqueue_ms = 1000.0 * (time.perf_counter() - started)
            return accepted
        # Waits for its own work, but not for the copies before it on our stream.
        self._memory.synchronize()
        return bool(self._context.execute_v2([self._addresses[item.position] for item in self._ends]))

    def _checked(self, arrays: Sequence[Any]) -> List[Any]:
        """Return the arrays, contiguous; TensorRT itself would read past the end of one that is too small."""
        if len(arrays) != len(self._inputs):
            raise InputError("the engine takes {} inputs, got {}".format(len(self._inputs), len(arrays)))
        checked = []
        for item, array in _pairs(self._inputs, arrays):
            min_shape, max_shape = item.shapes or (item.info.shape, item.info.shape)
            fits = len(array.shape) == len(max_shape) and all(
                min_shape[axis] <= size <= max_shape[axis] for axis, size in enumerate(array.shape)
            )
            if array.dtype != np.dtype(item.info.dtype) or not fits:
                sizes = "" if min_shape == max_shape else " of batch {} to {}".format(min_shape[0], max_shape[0])
                raise InputError(
                    "the engine takes {}{}, got {} of shape {}".format(item.info, sizes, array.dtype, array.shape)
                )
            checked.append(np.ascontiguousarray(array).reshape(array.shape))
        batches = {array.shape[0] for item, array in _pairs(self._inputs, checked) if DYNAMIC in item.info.shape}
        if len(batches) > 1:
            raise InputError("inputs of different batch sizes are given: {}".format(sorted(batches)))
        return checked

    def _failure(self, what: str) -> DeviceError:
        return DeviceError(
            "{} {} {}: {}".format(
                self._library.title, self._library.version, what, self._library.said("it does not say why")
            )
        )


def _max_shape(item: IOTensor) -> Shape:
    return item.shapes[1] if item.shapes is not None else item.info.shape


def _pairs(tensors: List[IOTensor], arrays: Sequence[Any]) -> Iterator[Tuple[IOTensor, Any]]:
    """Return ends with their arrays, as many of both."""
    return zip(tensors, arrays)  # noqa: B905  strict= is of Python 3.10
