"""ONNX Runtime: the backend that works everywhere. Its engine is the self-contained ONNX file itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.targets import Target
from exporter.onnx_session import import_onnxruntime, open_session
from jetson.errors import CoopexportError, one_line

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def backend() -> Backend:
    """Return the ONNX Runtime backend."""
    return Backend("onnxruntime", ".onnx", availability, can_run, flags, build, load)


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
    except CoopexportError as error:
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
    except CoopexportError as error:
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


def build(model: onnx.ModelProto, target: Target) -> Engine:
    """Return the model's own bytes: ONNX Runtime optimises when it loads, for the machine it is on."""
    return Engine(model.SerializeToString(deterministic=True), flags(target))


def flags(target: Target) -> dict[str, Any]:
    """Return the settings that engines are opened with."""
    return {"optimisation": "all", "threads": 1, "tf32": False}


def load(path: Path, target: Target) -> Runner:
    """Open a session on one thread; raises CoopexportError when ONNX Runtime refuses the file."""
    session = _open(path, target)
    names = [item.name for item in session.get_inputs()]

    def run(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            return list(session.run(None, dict(zip(names, inputs, strict=True))))
        except Exception as error:  # noqa: BLE001  its exception types are private
            raise CoopexportError(f"ONNX Runtime cannot run {path}: {one_line(error)[:300]}") from None

    return run


def _open(model: onnx.ModelProto | Path, target: Target) -> Any:
    """Open a session with the target's providers, and none in place of them; raises CoopexportError."""
    # TF32 keeps 10 bits of each factor: enough to move symbols, and not the fp32 that identities record.
    providers: list[Any] = [(name, {"use_tf32": "0"}) if name == _CUDA else name for name in target.providers]
    session = open_session(model, "all", threads=1, providers=providers)
    lost = [name for name in target.providers if name not in session.get_providers()]
    if lost:  # ONNX Runtime takes the CPU instead, without an error
        raise CoopexportError(
            f"{', '.join(lost)} does not start here: ONNX Runtime would use {', '.join(session.get_providers())} "
            "instead; check the GPU's driver and the CUDA libraries"
        )
    return session


def _identity_graph() -> onnx.ModelProto:
    """Return the smallest graph that opens."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "probe", [value("x", 1, [1])], [value("y", 1, [1])])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
