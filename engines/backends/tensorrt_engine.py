"""What both kinds of TensorRT share: the same layer builds, loads and inspects for both."""

from __future__ import annotations

import onnx

from engines.backends.interface import Engine
from engines.target_files.target_file import describe_values
from engines.targets.lookup import Target
from jetson.cuda.driver import first_gpu
from jetson.engines.build_settings import BuildSettings
from jetson.errors import DeviceError
from jetson.tensorrt_engines.build import build_engine
from jetson.tensorrt_engines.inspection import LayerInformation, describe_layers
from jetson.tensorrt_engines.library import open_library
from jetson.tensorrt_engines.runtime import EngineRunner, load_engine


def build(name: str, model: onnx.ModelProto, settings: BuildSettings) -> Engine:
    """Build `model` with the TensorRT called `name`; raises CoopexportError with all that it said."""
    built = build_engine(
        open_library(name),
        model.SerializeToString(),
        settings,
        describe_values(model.graph.input),
        describe_values(model.graph.output),
    )
    return Engine(built.data, built.flags, tuple(built.warnings))


def load(name: str, data: bytes) -> EngineRunner:
    """Load an engine's own bytes; raises CoopexportError with what TensorRT said."""
    return load_engine(open_library(name), data)


def inspect(name: str, data: bytes) -> list[LayerInformation]:
    """Return an engine's layers; it is loaded for it, so that a GPU must be there."""
    library = open_library(name)
    runner = load_engine(library, data)
    try:
        return describe_layers(library, runner.engine)
    finally:
        runner.close()


def reason_not_here(target: Target) -> str:
    """Return why the GPU that is here is not the target's; empty when it is."""
    try:
        gpu = first_gpu()
    except DeviceError as error:
        return str(error)
    if target.compute_capability not in (None, gpu.compute_capability):
        return f"{gpu.name} is here (SM {gpu.compute_capability}), the target has SM {target.compute_capability}"
    return ""
