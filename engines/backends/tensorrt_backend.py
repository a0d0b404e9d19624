"""Classic TensorRT: engines for the GPU that is there, so for a Jetson they are built on it."""

from __future__ import annotations

import onnx

from engines.backends import tensorrt_engine
from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.targets.lookup import Target
from jetson.engines.build_settings import BuildSettings
from jetson.errors import UnsupportedError
from jetson.tensorrt_engines.inspection import LayerInformation
from jetson.tensorrt_engines.library import TENSORRT, open_library


def backend() -> Backend:
    """Return the classic TensorRT backend."""
    return Backend(TENSORRT, ".engine", can_build, can_build, build, load, inspect)


def can_build(target: Target) -> Availability:
    """Say whether the target's TensorRT and GPU are here; running takes the same."""
    try:
        version = open_library(TENSORRT).version
    except UnsupportedError as error:
        return Availability(False, None, str(error))
    where = "; build on the device itself" if target.kind == "jetson" else ""
    if not target.takes_tensorrt(version):
        reason = f"TensorRT {version} is here, the target has {target.tensorrt}{where}"
        return Availability(False, version, reason)
    missing = tensorrt_engine.reason_not_here(target)
    if missing:
        return Availability(False, version, f"TensorRT builds for the GPU that it runs on: {missing}{where}")
    return Availability(True, version, "")


def build(model: onnx.ModelProto, target: Target, settings: BuildSettings) -> Engine:
    """Build `model` (self-contained) for the GPU that is here."""
    return tensorrt_engine.build(TENSORRT, model, settings)


def load(data: bytes, target: Target) -> Runner:
    """Load an engine on the GPU that is here."""
    return tensorrt_engine.load(TENSORRT, data)


def inspect(data: bytes, target: Target) -> list[LayerInformation]:
    """Return the layers of an engine, with kernels and dtypes."""
    return tensorrt_engine.inspect(TENSORRT, data)
