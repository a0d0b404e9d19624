"""What the NVIDIA driver says of the GPUs here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

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
