"""What a backend is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from engines.targets import Target


@dataclass(frozen=True)
class Availability:
    """Whether something is usable here, in which version, and if not, why and how to have it."""

    usable: bool
    version: str | None
    reason: str


@dataclass(frozen=True)
class Engine:
    """A built engine: the bytes of its file and the builder's settings that shaped it."""

    data: bytes
    flags: dict[str, Any]


Runner = Callable[[Sequence[NDArray[Any]]], list[NDArray[Any]]]


@dataclass(frozen=True)
class Backend:
    """One way to build and run engines.

    `can_build(target)` and `can_run(target)` say whether and why not; `flags(target)` returns the settings that shape
    an engine: one that was built with others is built again; `build(model, target)` makes an engine from a
    self-contained model; `load(path, target)` returns a function from inputs to outputs, one thread. The last two, and
    that function, raise CoopexportError with what the backend itself said.
    """

    name: str
    file_suffix: str
    can_build: Callable[[Target], Availability]
    can_run: Callable[[Target], Availability]
    flags: Callable[[Target], dict[str, Any]]
    build: Callable[[onnx.ModelProto, Target], Engine]
    load: Callable[[Path, Target], Runner]
