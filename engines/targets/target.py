"""What a target is: one kind of machine, and what builds for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["generic", "jetson", "desktop", "datacentre"]


@dataclass(frozen=True)
class Target:
    """One kind of machine and what builds for it. What is not known, or is as it is found there, is None.

    `kind`: what sort of machine. Of a Jetson: `board` ("orin-nano"), `chip` ("tegra234"), `jetpack` ("6.2"), `l4t`
    and `last_l4t`: the first and the last Jetson Linux that it comes with ("36.4"), `architecture` ("aarch64"), and
    `half_arithmetic`: whether its processor computes in float16. `tensorrt`: the version that is
    shipped there, compared as a prefix ("10.3.0"); `cuda`, `python`, `onnxruntime` likewise. `opset`: the newest that
    the backend reads. `dla_cores`: those that this TensorRT can use. `fast_fp16`, `fast_int8`: whether there are
    kernels that gain by it. `uint8`: whether the backend has that type at all. `memory_bytes`: of the module.
    `power_modes`: names by nvpmodel's id.

    What a project may choose: `precision`, `batches` (min, opt, max), `workspace_bytes`, `dla_core`,
    `gpu_fallback` and `optimization_level` as in `jetson.engines.build_settings`; `power_mode` to measure in, by name;
    `simplify`: whether onnx-simplifier goes over the graph first.
    """

    name: str
    description: str
    backend: str
    providers: tuple[str, ...] = ()
    compute_capability: str | None = None
    kind: Kind = "generic"
    board: str | None = None
    chip: str | None = None
    architecture: str | None = None
    half_arithmetic: bool | None = None
    jetpack: str | None = None
    l4t: str | None = None
    last_l4t: str | None = None
    tensorrt: str | None = None
    onnxruntime: str | None = None
    cuda: str | None = None
    python: str | None = None
    opset: int | None = None
    dla_cores: int = 0
    fast_fp16: bool | None = None
    fast_int8: bool | None = None
    uint8: bool = True
    memory_bytes: int | None = None
    power_modes: tuple[str, ...] = ()
    precision: str | None = None
    batches: tuple[int, int, int] | None = None
    workspace_bytes: int | None = None
    dla_core: int | None = None
    gpu_fallback: bool = True
    optimization_level: int | None = None
    power_mode: str | None = None
    simplify: bool = False

    def takes_tensorrt(self, version: str) -> bool:
        """Tell whether TensorRT `version` ("10.3.0.30") is the one that is shipped there; any, where none is known."""
        shipped = () if self.tensorrt is None else numbers_of(self.tensorrt)
        return numbers_of(version)[: len(shipped)] == shipped


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
