"""What this machine is, as engines' identities name it, and what the NVIDIA driver says of its GPUs."""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from dataclasses import dataclass

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


_TIMEOUT_S = 20


@dataclass(frozen=True)
class GPU:
    """One GPU: its name, the driver's version, its compute capability ("8.9")."""

    name: str
    driver: str
    compute_capability: str


def query_gpus() -> tuple[list[GPU], str]:
    """Return the GPUs that nvidia-smi lists, or none and the reason in words. A Jetson has no nvidia-smi before 7."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return [], "no NVIDIA driver here (no nvidia-smi); CPU backends work all the same"
    query = [tool, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        return [], f"nvidia-smi is there but fails: {error}"
    rows = [[cell.strip() for cell in line.rsplit(",", 2)] for line in answer.splitlines() if line.strip()]
    if any(len(row) != 3 for row in rows):
        return [], f"nvidia-smi answers in another way than it is asked: {answer.strip()[:200]}"
    return [GPU(*row) for row in rows], "" if rows else "nvidia-smi lists no GPU"
