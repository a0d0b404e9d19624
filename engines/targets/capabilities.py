"""What no machine can do, refused with the reason before any work."""

from __future__ import annotations

from engines.targets.catalogue import full_name, jetpacks_of
from engines.targets.target import Target, numbers_of
from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError, UnsupportedError

# Those that TensorRT-RTX 1.7 knows.
RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
_JETSON_WORDS = ("orin", "thor", "xavier", "nano", "tx2", "jetson")
_PRECISIONS = ("fp32", "fp16", "int8")
_HIGHEST_LEVEL = 5
_FIRST_WITH_LEVELS = (8, 6)


def check_supported(target: Target, settings: BuildSettings) -> None:
    """Raise UnsupportedError with the reason when nothing can be built for `target` with `settings`.

    What depends on the graph is `engines.preflight.check`'s.
    """
    reason = _why_not(target, settings)
    if reason is not None:
        raise UnsupportedError(f'target "{target.name}" cannot have that: {reason}')


def check_target_name(name: str) -> None:
    """Raise InputError when `name` asks for a target that cannot exist, with the reason; return otherwise."""
    machine, _, jetpack = name.partition("@")
    if machine.startswith("rtx-") and any(word in machine for word in _JETSON_WORDS):
        board = full_name(machine.removeprefix("rtx-"))
        raise InputError(
            f'there is no target "{name}": TensorRT-RTX has no kernels for a Jetson\'s GPU (it builds for SM '
            f"{', '.join(RTX_COMPUTE_CAPABILITIES)}; Orin is SM 8.7, Thor SM 11.0)",
            fix=f"use classic TensorRT on the device: --target {board if '@' in board else 'orin-nano'}",
        )
    releases = jetpacks_of(machine.removesuffix("-cpu"))
    if releases and jetpack:
        raise InputError(
            f'there is no target "{name}": JetPack {jetpack} is not one of the releases of {machine} that are known '
            f"here ({', '.join(releases)})"
        )


def _why_not(target: Target, settings: BuildSettings) -> str | None:
    """Return the first reason against it, most basic first."""
    reasons = (_precision(target, settings), _capability(target, settings), _batches(settings), _dla(target, settings),
               _tuning(target, settings))  # fmt: skip
    return next((reason for reason in reasons if reason is not None), None)


def _precision(target: Target, settings: BuildSettings) -> str | None:
    if settings.precision not in _PRECISIONS:
        return f'precision "{settings.precision}" is not one of {", ".join(_PRECISIONS)}'
    if settings.precision == "int8" and target.fast_int8 is False:
        return (
            f"TensorRT has no int8 kernels for SM {target.compute_capability} ({target.chip or 'its GPU'}): it would "
            "run in float32 and be no faster; use --precision fp16"
        )
    if settings.precision == "fp16" and target.backend == "onnxruntime" and target.half_arithmetic:
        return (
            f"the processor of {target.board or target.name} computes float16 in half under ONNX Runtime, which moves "
            "more symbols than the golden data allow; use --precision fp32 or int8"
        )
    return None


def _capability(target: Target, settings: BuildSettings) -> str | None:
    if target.backend != "tensorrt-rtx":
        return None
    wanted = settings.compute_capabilities or (target.compute_capability or "none",)
    unknown = [item for item in wanted if item not in RTX_COMPUTE_CAPABILITIES]
    if not unknown:
        return None
    jetson = " (a Jetson's)" if set(unknown) & {"5.3", "6.2", "7.2", "8.7", "11.0"} else ""
    return (
        f"TensorRT-RTX does not build for SM {', '.join(unknown)}{jetson}; it knows "
        f"{', '.join(RTX_COMPUTE_CAPABILITIES)}; for others use classic TensorRT"
    )


def _batches(settings: BuildSettings) -> str | None:
    min_batch, opt_batch, max_batch = settings.batches
    if not 1 <= min_batch <= opt_batch <= max_batch:
        return f"batches {min_batch}, {opt_batch}, {max_batch} are not at least 1 and in the order min, opt, max"
    return None


def _dla(target: Target, settings: BuildSettings) -> str | None:
    if settings.dla_core is None:
        return None
    if target.dla_cores == 0:
        user = "" if target.tensorrt is None else f" that TensorRT {target.tensorrt} could use"
        return f"DLA core {settings.dla_core} was asked for, and there is none{user}; leave dla_core out"
    if not 0 <= settings.dla_core < target.dla_cores:
        return f"DLA core {settings.dla_core} was asked for; it has {target.dla_cores}, counted from 0"
    if settings.dynamic:
        return "a DLA runs one batch size only; give three equal batches, or leave dla_core out"
    if settings.precision == "fp32":
        return "a DLA computes in fp16 and int8 only; use --precision fp16 or int8"
    return None


def _tuning(target: Target, settings: BuildSettings) -> str | None:
    level = settings.optimization_level
    if level is not None:
        if not 0 <= level <= _HIGHEST_LEVEL:
            return f"optimization_level {level} is not one of 0 to {_HIGHEST_LEVEL}"
        if target.tensorrt is not None and numbers_of(target.tensorrt) < _FIRST_WITH_LEVELS:
            return f"TensorRT {target.tensorrt} has no optimization_level; 8.6 was the first"
    if settings.workspace_bytes is not None and settings.workspace_bytes >= (target.memory_bytes or float("inf")):
        return (
            f"a workspace of {settings.workspace_bytes:,} bytes does not fit into {target.memory_bytes:,} bytes of "
            "memory, which processor and GPU share"
        )
    return None
