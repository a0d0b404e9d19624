"""TensorRT-RTX: real TensorRT engines for desktop GPUs, built ahead of time on a machine without one."""

from __future__ import annotations

import onnx

from engines.backends import tensorrt_engine
from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.targets.lookup import Target
from jetson.engines.build_settings import BuildSettings
from jetson.errors import UnsupportedError
from jetson.tensorrt_engines.configuration import compute_capability
from jetson.tensorrt_engines.inspection import LayerInformation
from jetson.tensorrt_engines.library import TENSORRT_RTX, open_library


def backend() -> Backend:
    """Return the TensorRT-RTX backend."""
    return Backend(TENSORRT_RTX, ".engine", can_build, can_run, build, load, inspect)


def can_build(target: Target) -> Availability:
    """Say whether TensorRT-RTX is installed and builds for the target's GPU; no GPU is needed."""
    try:
        library = open_library(TENSORRT_RTX)
    except UnsupportedError as error:
        return Availability(False, None, str(error))
    capability = str(target.compute_capability)
    if compute_capability(library, capability) is None:
        return Availability(False, library.version, f"it does not build for SM {capability}")
    return Availability(True, library.version, "")


def can_run(target: Target) -> Availability:
    """Say whether the target's engines can be run here: that takes its GPU and a driver."""
    buildable = can_build(target)
    missing = tensorrt_engine.reason_not_here(target) if buildable.usable else ""
    if missing:
        return Availability(False, buildable.version, f"TensorRT-RTX engines run on their GPU only: {missing}")
    return buildable


def build(model: onnx.ModelProto, target: Target, settings: BuildSettings) -> Engine:
    """Build `model` (self-contained) for the settings' compute capabilities, the target's where they name none."""
    capabilities = settings.compute_capabilities or (str(target.compute_capability),)
    return tensorrt_engine.build(TENSORRT_RTX, model, settings._replace(compute_capabilities=capabilities))


def load(data: bytes, target: Target) -> Runner:
    """Load an engine on the GPU that is here."""
    runnable = can_run(target)
    if not runnable.usable:
        raise UnsupportedError(f"cannot run this engine: {runnable.reason}")
    return tensorrt_engine.load(TENSORRT_RTX, data)


def inspect(data: bytes, target: Target) -> list[LayerInformation]:
    """Return the layers of an engine, with kernels and dtypes."""
    runnable = can_run(target)
    if not runnable.usable:
        raise UnsupportedError(f"cannot inspect this engine: {runnable.reason}")
    return tensorrt_engine.inspect(TENSORRT_RTX, data)
