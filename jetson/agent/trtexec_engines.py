"""Engines through trtexec, for devices without TensorRT's Python module: built, run and measured as files."""

import os
import subprocess
import tempfile
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from jetson.cuda.gpu_times import GpuTimes
from jetson.engines.build_settings import BuildSettings
from jetson.engines.header import HEADER_BYTES, read_header
from jetson.errors import DeviceError, InputError, UnsupportedError
from jetson.processes import end_with_parent
from jetson.tensorrt_engines.build import BuiltEngine
from jetson.tensorrt_engines.onnx_nodes import has_half_weights
from jetson.tensorrt_engines.tensor_info import TensorInfo
from jetson.tensorrt_engines.trtexec import (
    build_options,
    measure_options,
    own_version,
    read_gpu_times,
    read_outputs,
    read_times,
    reason_of_failure,
    run_options,
    version_of,
)

_RUN_TIMEOUT_S = 600.0
WARM_UP_MS = 500
TIMING = (
    "trtexec's latency after {} ms of warm-up, one run at a time, without CUDA graphs and spinning: inputs to the GPU, "
    "compute, outputs back".format(WARM_UP_MS)
)


class Trtexec:
    """trtexec of one device. `version`: as the packages say, or else as it names itself."""

    def __init__(self, program: str, version: Optional[str]) -> None:
        self.program = program
        self.version = version or own_version(program)

    def build(self, graph: bytes, inputs: Sequence[TensorInfo], settings: BuildSettings) -> BuiltEngine:
        """Build an engine from a self-contained ONNX file; raises CoopexportError with trtexec's own words.

        Takes minutes, and as long as it takes: nothing ends it but the user.
        """
        with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
            graph_path, engine_path = os.path.join(folder, "graph.onnx"), os.path.join(folder, "engine")
            with open(graph_path, "wb") as file:
                file.write(graph)
            options = build_options(
                version_of(self.version), graph_path, engine_path, inputs, settings, has_half_weights(graph)
            )
            self.run(options, None)
            data = _read_engine(engine_path)
        shown = [option for option in options if not option.startswith(("--onnx=", "--saveEngine="))]
        return BuiltEngine(data, read_header(data[:HEADER_BYTES]).version or self.version, {"trtexec": shown}, [])

    def measure(
        self, engine: bytes, inputs: Sequence[TensorInfo], batch: int, rounds: int, dla_core: Optional[int] = None
    ) -> Tuple[List[float], List[GpuTimes]]:
        """Return the milliseconds of at least `rounds` runs, transfers included, and what they are made of.

        The latter is empty where trtexec does not tell it. Raises CoopexportError with trtexec's own words.
        """
        with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
            engine_path, times = _write(folder, "engine", engine), os.path.join(folder, "times.json")
            version = version_of(self.version)
            options = measure_options(version, engine_path, inputs, batch, rounds, WARM_UP_MS, times, dla_core)
            self.run(options, None)
            return read_times(times, version, WARM_UP_MS), read_gpu_times(times, version, WARM_UP_MS)

    def load(
        self, engine: bytes, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], dla_core: Optional[int] = None
    ) -> "TrtexecRunner":
        """Return a function from input arrays to output arrays; every call starts trtexec anew."""
        return TrtexecRunner(self, engine, (inputs, outputs), dla_core)

    def run(self, options: Sequence[str], timeout_s: Optional[float]) -> str:
        """Run trtexec to its end and return what it printed; raises CoopexportError with its own words if it fails."""
        # Into a file: a pipe that nobody empties would stop it.
        with tempfile.TemporaryFile() as log:
            try:
                code = subprocess.call(
                    [self.program] + list(options),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_s,
                    preexec_fn=end_with_parent,
                )
            except subprocess.TimeoutExpired:
                raise DeviceError("trtexec did not end within {:g} s".format(timeout_s or 0)) from None
            except OSError as error:
                raise UnsupportedError("{} cannot be started: {}".format(self.program, error.strerror)) from None
            log.seek(0)
            output = log.read().decode("utf-8", "replace")
        if code != 0:
            raise UnsupportedError(reason_of_failure(code, output))
        return output


class TrtexecRunner:
    """An engine that trtexec runs, one process for each call."""

    def __init__(
        self,
        trtexec: Trtexec,
        engine: bytes,
        tensors: Tuple[Sequence[TensorInfo], Sequence[TensorInfo]],
        dla_core: Optional[int],
    ) -> None:
        self._trtexec = trtexec
        self._inputs, self._outputs = tensors
        self._dla_core = dla_core
        self._folder: Optional[Any] = tempfile.TemporaryDirectory(prefix="coopexport-")
        self._engine_path = _write(self._folder.name, "engine", engine)

    def __call__(self, arrays: Sequence[Any]) -> List[Any]:
        """Return the outputs for `arrays`, one per input; raises CoopexportError with trtexec's own words."""
        if self._folder is None:
            raise InputError("this engine is closed", fix="load it again")
        files = []
        for index, array in enumerate(arrays):
            tensor = self._inputs[index]
            if array.dtype != np.dtype(tensor.dtype) or tuple(array.shape[1:]) != tensor.shape[1:]:
                raise InputError("the engine takes {}, got {} of {}".format(tensor, array.dtype, array.shape))
            files.append(_write(self._folder.name, "input_{}".format(index), np.ascontiguousarray(array).tobytes()))
        output = os.path.join(self._folder.name, "outputs.json")
        batch = len(arrays[0])
        options = run_options(self._engine_path, self._inputs, files, batch, output, self._dla_core)
        self._trtexec.run(options, _RUN_TIMEOUT_S)
        return read_outputs(output, self._outputs, batch)

    def close(self) -> None:
        """Remove the engine's temporary file; closing twice does nothing."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _read_engine(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DeviceError("trtexec left no engine ({})".format(error.strerror)) from None


def _write(folder: str, name: str, data: bytes) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    return path
