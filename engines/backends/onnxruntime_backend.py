"""ONNX Runtime: the backend that works everywhere. Its engine is the self-contained ONNX file itself."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import onnx

from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.targets.lookup import Target
from exporter.onnx_graphs.session import import_onnxruntime, open_session
from jetson.engines.build_settings import BuildSettings
from jetson.errors import DamagedFileError, DeviceError, UnsupportedError, one_line
from jetson.onnxruntime_engines.session import FLAGS, SessionRunner
from jetson.tensorrt_engines.inspection import LayerInformation

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def backend() -> Backend:
    """Return the ONNX Runtime backend."""
    return Backend("onnxruntime", ".onnx", availability, can_run, build, load, inspect)


def availability(target: Target) -> Availability:
    """Say whether ONNX Runtime is usable here and knows the target's providers."""
    installed = installed_distributions()
    if len(installed) > 1:
        return Availability(
            False,
            None,
            f"{' and '.join(installed)} are both installed and overwrite each other; uninstall both, then install "
            "coopexport[cpu] or coopexport[gpu]",
        )
    try:
        onnxruntime = import_onnxruntime()
    except UnsupportedError as error:
        return Availability(False, None, str(error))
    offered = onnxruntime.get_available_providers()
    missing = [name for name in target.providers if name not in offered]
    if missing:
        return Availability(
            False,
            onnxruntime.__version__,
            f"this build of ONNX Runtime has no {', '.join(missing)}; pip install 'coopexport[gpu]'",
        )
    return Availability(True, onnxruntime.__version__, "")


def can_run(target: Target) -> Availability:
    """Say whether the target's providers also start here: a GPU's needs its driver and libraries."""
    available = availability(target)
    if not available.usable or target.providers == (_CPU,):
        return available
    try:
        _open(_identity_graph(), target)
    except (UnsupportedError, DeviceError) as error:
        return Availability(False, available.version, str(error))
    return available


def installed_distributions() -> list[str]:
    """Return which of the packages that provide `onnxruntime` are installed."""
    installed = []
    for name in _DISTRIBUTIONS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        installed.append(name)
    return installed


def build(model: onnx.ModelProto, target: Target, settings: BuildSettings) -> Engine:
    """Return the model's own bytes: ONNX Runtime optimises when it loads, for the machine it is on."""
    return Engine(model.SerializeToString(deterministic=True), {**settings.to_json(), **FLAGS})


def load(data: bytes, target: Target) -> Runner:
    """Open a session on one thread; raises CoopexportError when ONNX Runtime refuses the file."""
    return SessionRunner(_open(_parsed(data), target))


def inspect(data: bytes, target: Target) -> list[LayerInformation]:
    """Return the file's own nodes: which of them ONNX Runtime fuses is decided where it is loaded."""
    nodes = _parsed(data).graph.node
    return [LayerInformation(node.name or node.output[0], node.op_type) for node in nodes]


def _parsed(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # noqa: BLE001  protobuf's own, which differ by its version
        raise DamagedFileError(f"cannot load the engine: it is not an ONNX file ({one_line(error)[:200]})") from None
    if not model.graph.output:
        raise DamagedFileError("cannot load the engine: its graph has no output")
    return model


def _open(model: onnx.ModelProto, target: Target) -> Any:
    """Open a session with the target's providers, and none in place of them; raises CoopexportError."""
    # TF32 keeps 10 bits of each factor: enough to move symbols, and not the fp32 that identities record.
    providers: list[Any] = [(name, {"use_tf32": "0"}) if name == _CUDA else name for name in target.providers]
    session = open_session(model, "all", threads=1, providers=providers)
    lost = [name for name in target.providers if name not in session.get_providers()]
    if lost:  # ONNX Runtime takes the CPU instead, without an error
        raise DeviceError(
            f"{', '.join(lost)} does not start here: ONNX Runtime would use {', '.join(session.get_providers())} "
            "instead",
            fix="check the GPU's driver and the CUDA libraries",
        )
    return session


def _identity_graph() -> onnx.ModelProto:
    """Return the smallest graph that opens."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "probe", [value("x", 1, [1])], [value("y", 1, [1])])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
