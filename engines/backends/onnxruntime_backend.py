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
from jetson.errors import CoopexportError

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


def backend() -> Backend:
    """Return the ONNX Runtime backend."""
    return Backend("onnxruntime", ".onnx", availability, availability, build, load)


def availability(target: Target) -> Availability:
    """Say whether ONNX Runtime with the target's providers is usable here."""
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
    return Engine(model.SerializeToString(deterministic=True), {"optimisation": "all", "threads": 1})


def load(path: Path, target: Target) -> Runner:
    """Open a session on one thread; raises CoopexportError when ONNX Runtime refuses the file."""
    session = open_session(path, "all", threads=1, providers=target.providers)
    names = [item.name for item in session.get_inputs()]

    def run(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return list(session.run(None, dict(zip(names, inputs, strict=True))))

    return run
