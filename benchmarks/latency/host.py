"""What machine a run was taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def describe_host() -> dict[str, Any]:
    """Return name, processor, cores, load, operating system and Python of this machine."""
    return {
        "name": platform.node(),
        "processor": _processor(),
        "cores": len(allowed_cpus()),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def allowed_cpus() -> tuple[int, ...]:
    """Return the numbers of the CPUs that this process may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def installed_versions(distributions: Sequence[str]) -> dict[str, str]:
    """Return the version of each of `distributions`, or that it is not installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "(not installed)"
    return found


def _processor() -> str:
    """Return the processor's own name where the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()
