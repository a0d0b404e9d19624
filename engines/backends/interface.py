"""What a backend is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from engines.targets.lookup import Target
from jetson.engines.build_settings import BuildSettings
from jetson.tensorrt_engines.inspection import LayerInformation


@dataclass(frozen=True)
class Availability:
    """Whether something is usable here, in which version, and if not, why and how to have it."""

    usable: bool
    version: str | None
    reason: str


@dataclass(frozen=True)
class Engine:
    """A built engine: the bytes of its file, its settings and what the builder made of them (`flags`).

    `warnings`: what the builder said about it.
    """

    data: bytes
    flags: dict[str, Any]
    warnings: tuple[str, ...] = ()


class Runner(Protocol):
    """A loaded engine: a function from the inputs' arrays to the outputs', one call at a time; close it after use."""

    def __call__(self, arrays: Sequence[NDArray[Any]], /) -> list[NDArray[Any]]:
        """Return the outputs; raises CoopexportError with what the backend itself said."""

    def close(self) -> None:
        """Give back what the engine holds."""


@dataclass(frozen=True)
class Backend:
    """One way to build and run engines.

    `can_build(target)` and `can_run(target)` say whether and why not. `build(model, target, settings)` makes an
    engine from a self-contained model. `load(data, target)` and `inspect(data, target)` take the engine's own bytes,
    never a path: what was hashed is what is loaded. The last three raise CoopexportError with what the backend said.
    """

    name: str
    file_suffix: str
    can_build: Callable[[Target], Availability]
    can_run: Callable[[Target], Availability]
    build: Callable[[onnx.ModelProto, Target, BuildSettings], Engine]
    load: Callable[[bytes, Target], Runner]
    inspect: Callable[[bytes, Target], list[LayerInformation]]
