"""Doubles as modules: `tensorrt` or `tensorrt_rtx` of one version, for a test or for a process."""

import contextlib
import os
import sys
import types

from tensorrt_doubles import builders, networks, runtimes
from tensorrt_doubles.strict_classes import Surface, enumeration, strict_class
from tensorrt_doubles.world import World

VERSIONS = ("8.2", "8.5", "8.6", "10.3", "10.13", "10.16", "11.1", "11.4")

_TEMPLATES = (
    networks.Dims, networks.ITensor, networks.ILayer, networks.INetworkDefinition, networks.ParserError,
    networks.OnnxParser, builders.IHostMemory, builders.IOptimizationProfile, builders.ITimingCache,
    builders.IProgressMonitor, builders.IBuilderConfig, builders.Builder, runtimes.Runtime, runtimes.ICudaEngine,
    runtimes.IExecutionContext, runtimes.EngineInspector,
)  # fmt: skip
_ENUMERATIONS = (
    "BuilderFlag", "NetworkDefinitionCreationFlag", "DataType", "TensorIOMode", "TensorLocation", "MemoryPoolType",
    "DeviceType", "ComputeCapability", "OnnxParserFlag", "LayerInformationFormat", "ProfilingVerbosity",
    "HardwareCompatibilityLevel", "ErrorCode", "LayerType", "EngineCapability",
)  # fmt: skip
_ALIASES = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8"}


def module_name(version):
    """Return the name that a version's module is imported by."""
    return "tensorrt_rtx" if version.startswith("rtx") else "tensorrt"


def make_module(version, **machine):
    """Return a double of `version` ("8.2" to "11.4", "rtx-1.7"); `machine`: see World."""
    surface = Surface(version)
    module = types.ModuleType(module_name(version))
    module._world = World(surface, **machine)
    module.__version__ = surface.overlay["versions"][version]["version"]
    for name in _ENUMERATIONS:
        if surface.has(name):
            numbers = surface.numbers(name)
            setattr(module, name, enumeration(name, {key: numbers[key] for key in sorted(surface.members(name))}))
    severities = enumeration("Severity", surface.numbers("Severity"))
    module.ILogger = _logger_class(severities)
    module.Logger = type("Logger", (module.ILogger,), {"__init__": _initialise, "min_severity": severities.WARNING})
    for template in _TEMPLATES:
        if surface.has(template.__name__):
            setattr(module, template.__name__, strict_class(template, surface, module))
    if "init_libnvinfer_plugins" in surface.pick(surface.overlay["module"]):
        module.init_libnvinfer_plugins = _plugin_initialiser(module)
    aliases = dict(_ALIASES, int64="INT64")
    for name in surface.pick(surface.overlay["module"]):
        if name in aliases:
            setattr(module, name, getattr(module.DataType, aliases[name]))
    return module


def _plugin_initialiser(module):
    """Return the function that registers NVIDIA's plugins: (logger, namespace), both positional in every version."""

    def init_libnvinfer_plugins(logger, namespace):
        if not isinstance(logger, module.ILogger) or not isinstance(namespace, str):
            raise TypeError("init_libnvinfer_plugins(): incompatible function arguments")
        module._world.plugin_namespaces.append(namespace)
        return True

    return init_libnvinfer_plugins


def _logger_class(severities):
    content = {"Severity": severities, "__init__": _initialise, "log": _log}
    content.update(severities.__members__)
    return type("ILogger", (object,), content)


def _initialise(self, *_severity):
    self._initialised = True


def _log(self, severity, msg):
    if severity.name in ("ERROR", "INTERNAL_ERROR"):
        sys.stderr.write("[TRT] [E] {}\n".format(msg))


@contextlib.contextmanager
def installed(version, **machine):
    """Have `import tensorrt` (or `tensorrt_rtx`) give a double of `version`; yields it."""
    name = module_name(version)
    before = sys.modules.get(name)
    sys.modules[name] = make_module(version, **machine)
    try:
        yield sys.modules[name]
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


def install_from_environment():
    """Put the double that COOPEXPORT_DOUBLE names into this process, for a fake device.

    COOPEXPORT_DOUBLE_SM ("8.7") and COOPEXPORT_DOUBLE_DLA ("2") say what GPU it has.
    """
    machine = {
        "compute_capability": os.environ.get("COOPEXPORT_DOUBLE_SM", "8.7"),
        "dla_cores": int(os.environ.get("COOPEXPORT_DOUBLE_DLA", "0")),
        "driver": os.environ.get("COOPEXPORT_DOUBLE_DRIVER", "1") == "1",
    }
    module = make_module(os.environ["COOPEXPORT_DOUBLE"], **machine)
    sys.modules[module.__name__] = module
    return module
