"""TensorRT through its Python module, 8.2 to 11.4 and TensorRT-RTX alike: read a graph, build, load, run, inspect."""

from jetson.tensorrt_engines.build import BuiltEngine, build_engine
from jetson.tensorrt_engines.cuda_choice import open_device_memory
from jetson.tensorrt_engines.inspection import LayerInformation, describe_layers
from jetson.tensorrt_engines.library import TENSORRT, TENSORRT_RTX, Library, open_library
from jetson.tensorrt_engines.runtime import EngineRunner, load_engine

__all__ = [
    "TENSORRT",
    "TENSORRT_RTX",
    "BuiltEngine",
    "EngineRunner",
    "LayerInformation",
    "Library",
    "build_engine",
    "describe_layers",
    "load_engine",
    "open_device_memory",
    "open_library",
]
