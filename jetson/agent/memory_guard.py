"""Building within the memory that is free: boards of 4 GB, where CPU and GPU share it, have none to waste."""

from jetson.device.memory import Memory
from jetson.engines.build_settings import BuildSettings
from jetson.errors import DeviceError

_MEBIBYTE = 1 << 20
# TensorRT's libraries and CUDA's context: a build of VGG-16 by TensorRT-RTX stood at 430 MiB with its 60 MB of weights.
_BASE_BYTES = 400 * _MEBIBYTE
# The file, the parser's copy, the builder's and the engine's.
_COPIES_OF_WEIGHTS = 4
# With less, most tactics of a convolution are out of reach.
_LEAST_WORKSPACE_BYTES = 16 * _MEBIBYTE
# The other half is for activations while tactics are timed, and for the system.
_WORKSPACE_SHARE = 0.5


def within_memory(settings: BuildSettings, graph_bytes: int, memory: Memory) -> BuildSettings:
    """Return `settings` with a workspace that fits into `memory`; never a larger one than they ask for.

    `graph_bytes`: size of the ONNX file. Raises CoopexportError saying how much is missing when not even the least
    workspace fits.
    """
    need = _BASE_BYTES + _COPIES_OF_WEIGHTS * graph_bytes + int(_LEAST_WORKSPACE_BYTES / _WORKSPACE_SHARE)
    if memory.available_bytes < need:
        raise DeviceError(
            "{:,} MiB of memory are free and about {:,} MiB are needed: close other programs (the desktop too: sudo "
            "systemctl isolate multi-user.target), then run this again".format(
                memory.available_bytes // _MEBIBYTE, -(-need // _MEBIBYTE)
            )
        )
    left = memory.available_bytes - need
    fits = _LEAST_WORKSPACE_BYTES + int(_WORKSPACE_SHARE * left)
    # In whole MiB, which is what trtexec takes.
    fits -= fits % _MEBIBYTE
    wanted = settings.workspace_bytes
    return settings._replace(workspace_bytes=fits if wanted is None else min(wanted, fits))
