"""TensorRT-RTX: real TensorRT engines for desktop GPUs, built ahead of time on a machine without one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import onnx

from engines.backends.interface import Availability, Backend, Engine, Runner
from engines.targets import Target
from jetson.errors import CoopexportError, one_line


def backend() -> Backend:
    """Return the TensorRT-RTX backend."""
    return Backend("tensorrt-rtx", ".engine", can_build, can_run, build, load)


def can_build(target: Target) -> Availability:
    """Say whether TensorRT-RTX is installed and builds for the target's GPU; no GPU is needed."""
    try:
        tensorrt_rtx = _import_tensorrt_rtx()
    except CoopexportError as error:
        return Availability(False, None, str(error))
    if target.compute_capability is not None and _compute_capability(tensorrt_rtx, target) is None:
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
        raise CoopexportError(f"TensorRT-RTX cannot read the graph: {'; '.join(found or messages)[:600]}")
    _check_output_dtypes(model, network)
    config = builder.create_builder_config()
    capability = _compute_capability(tensorrt_rtx, target)
    config.num_compute_capabilities = 1  # must come first, or the next call fails without a word
    if capability is None or not config.set_compute_capability(capability, 0):
        raise CoopexportError(f"TensorRT-RTX does not build for SM {target.compute_capability}")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CoopexportError(f"TensorRT-RTX built no engine for {target.name}: {'; '.join(messages)[:600]}")
    return Engine(bytes(engine), {"strongly_typed": True})


def load(path: Path, target: Target) -> Runner:
    """Refuse: see `can_run`."""
    raise CoopexportError(f"cannot run {path}: {can_run(target).reason}")


def _import_tensorrt_rtx() -> Any:
    try:
        import tensorrt_rtx
    except ImportError as error:
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
    where = f"node {error.node()}"
    name = error.node_name() or error.node_operator()
    return one_line(f"{where} ({name}): {error.desc()}")


def _check_output_dtypes(model: onnx.ModelProto, network: Any) -> None:
    """Refuse a network whose outputs have other dtypes than the graph declares: the parser changes them silently."""
    for index, value in enumerate(model.graph.output):
        declared = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        found = str(network.get_output(index).dtype).rsplit(".", 1)[-1].lower()
        names = {"float": "float32", "half": "float16"}
        if names.get(found, found) != declared:
            raise CoopexportError(f"TensorRT-RTX makes output '{value.name}' {found}, the graph declares {declared}")
