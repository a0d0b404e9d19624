"""What is usable on this machine, and why the rest is not."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from engines.backends.registry import all_backends
from engines.host.name_clashes import name_clashes
from engines.host.this_machine import query_gpus
from engines.targets.lookup import load_targets
from jetson.errors import CoopexportError
from jetson.wire.rans import rans_implementation


@dataclass(frozen=True)
class Finding:
    """One thing: whether it is usable, its version where it has one, and what it does or why it is not usable."""

    subject: str
    usable: bool
    version: str
    detail: str


@dataclass(frozen=True)
class DoctorRequest:
    """The working directory, whose modules and packages are looked at as well as those on Python's path."""

    folder: Path = Path()


@dataclass(frozen=True)
class DoctorResult:
    """What is usable and what is not: one finding for each thing that a user may ask about."""

    findings: tuple[Finding, ...]


# Distribution, module, what it is for.
_OPTIONAL = (
    ("torch", "torch", "shrink and export; pip install 'coopexport[torch]'"),
    ("matplotlib", "matplotlib", "figures of the report; pip install 'coopexport[report]'"),
    ("scikit-learn", "sklearn", "the demo's data; pip install 'coopexport[demo]'"),
    ("onnxsim", "onnxsim", "graph simplification; pip install 'coopexport[simplify]'"),
    ("tensorrt", "tensorrt", "classic TensorRT; pip install 'coopexport[tensorrt]' on a machine with an NVIDIA GPU"),
    ("pycuda", "pycuda", "device memory for TensorRT; pip install 'coopexport[pycuda]'"),
)


def examine(request: DoctorRequest) -> DoctorResult:
    """Return findings about Python, GPUs, targets, entropy coder, optional packages and clashes of names.

    What is missing or broken is a finding, not an error.
    """
    python = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    findings = [Finding("Python", True, python, sys.executable), _gpu()]
    backends = all_backends()
    for target in load_targets().values():
        if target.kind == "jetson":
            continue  # another machine
        backend = backends[target.backend]
        building, running = backend.can_build(target), backend.can_run(target)
        detail = "builds and runs here" if running.usable else "builds here"
        if not building.usable:
            detail = building.reason
        elif not running.usable:
            detail += f"; {running.reason}"
        findings.append(Finding(f"target {target.name}", building.usable, building.version or "", detail))
    findings.append(_entropy_coder())
    findings += [_package(*row) for row in _OPTIONAL]
    clashes = name_clashes(request.folder, sys.path)
    findings += [Finding(f"name {clash.name}", False, "", clash.detail) for clash in clashes]
    return DoctorResult(tuple(findings))


def _entropy_coder() -> Finding:
    """Say which implementation of rANS runs: plain Python gives the same bytes, many times slower (docs/codecs.md)."""
    try:
        implementation = rans_implementation()
    except CoopexportError as error:
        return Finding("entropy coder", False, "", str(error))
    if implementation.name == "c":
        return Finding("entropy coder", True, "c", "rANS in C, compiled here")
    return Finding("entropy coder", False, "python", f"rANS in plain Python, which is slow: {implementation.reason}")


def _package(distribution: str, module: str, purpose: str) -> Finding:
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Finding(distribution, False, "", f"not installed; for {purpose}")
    if util.find_spec(module) is None:
        return Finding(distribution, False, version, f"installed, but module {module} is not found")
    return Finding(distribution, True, version, purpose.split(";")[0])


def _gpu() -> Finding:
    """Ask nvidia-smi for desktop GPUs, the device tree for a Jetson."""
    model = Path("/proc/device-tree/model")
    if model.is_file() and "jetson" in model.read_text(errors="replace").lower():
        return Finding("GPU", True, "", model.read_text(errors="replace").strip("\0\n"))
    gpus, reason = query_gpus()
    names = [f"{gpu.name}, {gpu.driver}, {gpu.compute_capability}" for gpu in gpus]
    return Finding("GPU", bool(names), "", "; ".join(names) or reason)
