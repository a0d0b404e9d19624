"""Backends by name."""

from __future__ import annotations

from engines.backends import onnxruntime_backend, tensorrt_backend, tensorrt_rtx_backend
from engines.backends.interface import Backend


def all_backends() -> dict[str, Backend]:
    """Return every backend by the name that targets use."""
    backends = (onnxruntime_backend.backend(), tensorrt_backend.backend(), tensorrt_rtx_backend.backend())
    return {backend.name: backend for backend in backends}


def find_backend(name: str) -> Backend:
    """Return the backend called `name`; a target file that names another is a bug, so KeyError."""
    return all_backends()[name]
