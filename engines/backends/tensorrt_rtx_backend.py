"""TensorRT-RTX: real TensorRT engines for desktop GPUs, built ahead of time on a machine without one."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import onnx

from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.target_file import describe_values
from engines.targets import Target
from jetson.errors import CoopexportError, one_line


def backend() -> Backend:
    """Return the TensorRT-RTX backend."""
    return Backend("tensorrt-rtx", ".engine", can_build, can_run, flags, build, load)


def can_build(target: Target) -> Availability:
    """Say whether TensorRT-RTX is installed and builds for the target's GPU; no GPU is needed."""
    try:
        tensorrt_rtx = _import_tensorrt_rtx()
    except CoopexportError as error:
        return Availability(False, None, str(error))
    if _compute_capability(tensorrt_rtx, target) is None:
        return Availability(False, tensorrt_rtx.__version__, f"it does not build for SM {target.compute_capability}")
    return Availability(True, tensorrt_rtx.__version__, "")


def can_run(target: Target) -> Availability:
    """Say whether engines can be run here: not by this version."""
    buildable = can_build(target)
    if not buildable.usable:
        return buildable
    return Availability(
        False, buildable.version, "this version builds TensorRT-RTX engines and does not run them on this host"
    )


def flags(target: Target) -> dict[str, Any]:
    """Return the builder's settings."""
    return {"strongly_typed": True, "tf32": False}


def build(model: onnx.ModelProto, target: Target) -> Engine:
    """Build `model` (self-contained, static batch) for the target's compute capability.

    Raises CoopexportError with everything that the parser and the builder said.
    """
    tensorrt_rtx = _import_tensorrt_rtx()
    logger, messages = _logger()
    messages.clear()
    builder = tensorrt_rtx.Builder(logger)
    # Referenced until the parser is gone: it keeps a bare pointer to the network.
    network = builder.create_network(0)
    parser = tensorrt_rtx.OnnxParser(network, logger)
    parsed = parser.parse(model.SerializeToString())
    # An empty or foreign file parses "successfully" into a network without outputs.
    if not parsed or network.num_outputs == 0:
        found = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        said = "; ".join(found or messages) or "no network comes out of it"
        raise CoopexportError(f"TensorRT-RTX cannot read the graph: {said[:600]}")
    _check_ends(model, network)
    config = builder.create_builder_config()
    # On unless cleared, and it keeps 10 bits of each factor: enough to move symbols, unseen where no GPU can check.
    config.clear_flag(tensorrt_rtx.BuilderFlag.TF32)
    capability = _compute_capability(tensorrt_rtx, target)
    config.num_compute_capabilities = 1  # must come first, or the next call fails without a word
    if capability is None or not config.set_compute_capability(capability, 0):
        raise CoopexportError(f"TensorRT-RTX does not build for SM {target.compute_capability}")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CoopexportError(f"TensorRT-RTX built no engine for {target.name}: {'; '.join(messages)[:600]}")
    return Engine(bytes(engine), flags(target))


def load(path: Path, target: Target) -> Runner:
    """Refuse: see `can_run`."""
    raise CoopexportError(f"cannot run {path}: {can_run(target).reason}")


def _import_tensorrt_rtx() -> Any:
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:  # OSError: its libraries do not load
        raise CoopexportError(
            f"TensorRT-RTX is not usable ({one_line(error)}); pip install 'coopexport[rtx]' (Linux, x86_64)"
        ) from None
    return tensorrt_rtx


def _compute_capability(tensorrt_rtx: Any, target: Target) -> Any:
    name = "SM" + str(target.compute_capability).replace(".", "")
    return getattr(tensorrt_rtx.ComputeCapability, name, None)


@functools.cache
def _logger() -> tuple[Any, list[str]]:
    """Return the process's one TensorRT logger (later ones would be ignored) and the errors it collects."""
    tensorrt_rtx = _import_tensorrt_rtx()
    messages: list[str] = []

    class CollectingLogger(tensorrt_rtx.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            tensorrt_rtx.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (tensorrt_rtx.ILogger.ERROR, tensorrt_rtx.ILogger.INTERNAL_ERROR):
                messages.append(one_line(message))

    return CollectingLogger(), messages


def _describe(error: Any) -> str:
    return one_line(f"node {error.node()} ({error.node_operator()} {error.node_name()}): {error.desc()}")


def _check_ends(model: onnx.ModelProto, network: Any) -> None:
    """Refuse a network whose inputs or outputs are not what the graph declares: the parser changes dtypes silently."""
    ends = [network.get_input(index) for index in range(network.num_inputs)]
    ends += [network.get_output(index) for index in range(network.num_outputs)]
    found = [{"name": end.name, "dtype": _dtype_name(end), "shape": list(end.shape)} for end in ends]
    declared = describe_values((*model.graph.input, *model.graph.output))
    for was, now in itertools.zip_longest(declared, found):
        if was != now:
            raise CoopexportError(f"TensorRT-RTX makes {now} of what the graph declares as {was}")


def _dtype_name(tensor: Any) -> str:
    name = str(tensor.dtype).rsplit(".", 1)[-1].lower()
    return {"float": "float32", "half": "float16"}.get(name, name)
