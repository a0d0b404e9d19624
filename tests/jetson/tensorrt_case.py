"""A double of TensorRT in place, with device memory over it, for the tests of the layer above."""

import contextlib
import sys
import types

from tensorrt_doubles import host_memory
from tensorrt_doubles.installing import installed
from tensorrt_doubles.pycuda_double import make_driver

from jetson.engines.build_settings import BuildSettings
from jetson.tensorrt_engines.build import build_engine
from jetson.tensorrt_engines.library import TENSORRT, TENSORRT_RTX, open_library

RTX = "rtx-1.7"
AHEAD = BuildSettings(compute_capabilities=("8.9",))


@contextlib.contextmanager
def tensorrt(version, **machine):
    """Yield the opened double of `version`."""
    with installed(version, **machine):
        yield open_library(TENSORRT_RTX if version == RTX else TENSORRT)


def settings_for(version, **changes):
    """Return settings that a build with `version` takes."""
    return (AHEAD if version == RTX else BuildSettings())._replace(**changes)


def symbols_of(version):
    """Return the ONNX dtype that symbols have for `version`: 8.2 has no uint8."""
    return 6 if version == "8.2" else 2


def build(library, version, graph, **changes):
    """Build `graph` with settings that fit."""
    return build_engine(library, graph.SerializeToString(), settings_for(version, **changes))


@contextlib.contextmanager
def device_memory(monkeypatch, **driver):
    """Yield host memory under PyCUDA's double, as its only way to memory; fail for what was misused or leaks."""
    host_memory.forget_process_memory()
    memory = host_memory.process_memory()
    with monkeypatch.context() as patched:
        package = types.ModuleType("pycuda")
        package.driver = make_driver(memory, **driver)
        patched.setitem(sys.modules, "pycuda", package)
        patched.setitem(sys.modules, "pycuda.driver", package.driver)
        yield memory
    memory.check_clean()
    host_memory.forget_process_memory()
