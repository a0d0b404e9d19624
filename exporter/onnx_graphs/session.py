"""ONNX Runtime sessions as the parity checks use them: optimisation level and threads always explicit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from jetson.errors import InputError, UnsupportedError, one_line

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Optimisation = Literal["disabled", "extended", "all"]
_BATCH = 64


def open_session(
    model: onnx.ModelProto | Path,
    optimisation: Optimisation,
    threads: int = 1,
    providers: Sequence[str] = (),
    weights_folder: Path | None = None,
) -> onnxruntime.InferenceSession:
    """Open `model`, in memory or a file, on the CPU unless `providers` says otherwise.

    `weights_folder`: where the external weights of a model in memory lie; the graph is written there for as long as
    it takes to open it. Raises CoopexportError when ONNX Runtime is not installed or refuses the model, and OSError.
    """
    if weights_folder is not None and not isinstance(model, Path):
        with tempfile.NamedTemporaryFile(prefix=".coopexport-", suffix=".onnx", dir=weights_folder) as file:
            file.write(model.SerializeToString())
            file.flush()
            return open_session(Path(file.name), optimisation, threads, providers)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    level = {"disabled": "ORT_DISABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level[optimisation])
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(source, options, providers=list(providers) or ["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  its exception types are private
        name = str(model) if isinstance(model, Path) else "the graph"
        raise UnsupportedError(f"ONNX Runtime cannot load {name}: {one_line(error)[:300]}") from None


def import_onnxruntime() -> Any:
    """Return the module onnxruntime; raises CoopexportError that says how to install it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UnsupportedError(
            f"ONNX Runtime is needed here and not usable ({error})",
            fix="install it with: pip install 'coopexport[cpu]' (or [gpu], not both)",
        ) from None
    return onnxruntime


def run(session: onnxruntime.InferenceSession, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return all outputs of `session` for `inputs` (in the order of its inputs, N samples each).

    Samples pass in batches of 64 at most. Raises CoopexportError naming the shapes when an input does not fit.
    """
    names = [item.name for item in session.get_inputs()]
    fixed = session.get_inputs()[0].shape[0]
    batch = fixed if isinstance(fixed, int) else _BATCH
    parts: list[list[NDArray[Any]]] = []
    for start in range(0, len(inputs[0]), batch):
        feed = {name: value[start : start + batch] for name, value in zip(names, inputs, strict=True)}
        try:
            parts.append(session.run(None, feed))
        except Exception as error:  # noqa: BLE001  its exception types are private
            shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in feed.items())
            raise InputError(f"the graph does not take {shapes}: {one_line(error)[:200]}") from None
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
