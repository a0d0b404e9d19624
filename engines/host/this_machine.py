"""What this machine is, as engines' identities name it."""

from __future__ import annotations

import contextlib
import platform

from engines.host.nvidia_driver import query_gpus
from exporter.onnx_graphs.session import import_onnxruntime
from jetson.device.board import read_board
from jetson.engines.machine import Machine
from jetson.errors import UnsupportedError
from jetson.tensorrt_engines.library import TENSORRT, TENSORRT_RTX, open_library


def this_machine() -> Machine:
    """Return what can be found out here, a Jetson or not; what cannot is None.

    Of several GPUs the first one names driver and model; the compute capability is only known when all have the same.
    Imports the backends that are installed, which takes up to a second.
    """
    board = read_board("/")
    jetson = board.chip is not None  # other boards have a device tree as well
    gpus, _ = query_gpus()
    capabilities = {gpu.compute_capability for gpu in gpus}
    return Machine(
        operating_system=platform.system(),
        architecture=platform.machine(),
        board=board.model if jetson else None,
        chip=board.chip,
        l4t=board.l4t,
        gpu=gpus[0].name if gpus and not jetson else None,
        compute_capability=board.compute_capability or (capabilities.pop() if len(capabilities) == 1 else None),
        driver=gpus[0].driver if gpus else None,
        backends=_backends(),
    )


def _backends() -> dict[str, str]:
    """Return the versions of the backends that can be imported."""
    found = {}
    for name in (TENSORRT, TENSORRT_RTX):
        with contextlib.suppress(UnsupportedError):
            found[name] = open_library(name).version
    with contextlib.suppress(UnsupportedError):
        found["onnxruntime"] = str(import_onnxruntime().__version__)
    return found
