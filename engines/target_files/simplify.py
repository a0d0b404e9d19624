"""onnx-simplifier, where a target asks for it: gated on golden inputs, and off again by itself where it does harm.

It folds constants and drops what computes nothing, which an older TensorRT may gain by; it also has its own bugs, so
that nothing of it is taken on trust, and it runs in a process of its own, which may crash.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.targets.target import Target
from exporter import parity
from exporter.bundles.bundle import CutTensorRecord
from exporter.onnx_graphs.session import open_session
from jetson.errors import InputError, ParityError, UnsupportedError, one_line
from jetson.wire.feature import symbols_of

Simplifier = Callable[[onnx.ModelProto], onnx.ModelProto]
Arrays = Sequence[NDArray[Any]]

_TIMEOUT_S = 300
_LONGEST = 200
# Of symbols, as in an engine's own check (docs/formats.md): so many may be off, and by one.
_SYMBOL_FRACTION_BOUND = 1e-3
_STANDARD_DOMAINS = ("", "ai.onnx")
_SCRIPT = """
import sys
sys.modules["torch"] = None  # imported where it is there, for what is not used here: two seconds
import onnx, onnxsim
model, is_equal = onnxsim.simplify(onnx.load(sys.argv[1]))
if not is_equal:
    sys.exit("its own check found other outputs")
onnx.save(model, sys.argv[2])
"""


class NotSimplifiedError(Exception):
    """The simplified graph cannot be used, or there is none; says why."""


@dataclass(frozen=True)
class Simplified:
    """A graph that went through onnx-simplifier, or did not.

    `flags`: what an identity records: empty where it was not asked for; `simplified` (the simplifier's version, or
    False) otherwise, and `simplify_reason` where it was switched off.
    """

    model: onnx.ModelProto
    flags: dict[str, Any]


def simplify(
    model: onnx.ModelProto,
    target: Target,
    batches: tuple[int, int, int],
    inputs: Arrays,
    tensors: Sequence[CutTensorRecord] = (),
    simplifier: Simplifier | None = None,
) -> Simplified:
    """Return `model`, a per-target file, simplified where `target.simplify` says so and its outputs stay the same.

    `inputs`: golden inputs, N x ... each; `batches` as in the file. `tensors`: those that a head sends, which are its
    first outputs. Floats may be off by `parity.BUILD_BOUND` of their spread, symbols by one in a thousandth of them,
    all else by nothing. `simplifier`: another one than onnx-simplifier. Raises CoopexportError when it is not
    installed.
    """
    if not target.simplify:
        return Simplified(model, {})
    version = _version()
    try:
        candidate = (simplifier or run_onnxsim)(model)
        _check_same_tensors(model, candidate)
        for batch in sorted({batches[0], batches[2]}):
            _check_same_outputs(_run(model, inputs, batch), _run(candidate, inputs, batch), tensors)
    except (NotSimplifiedError, UnsupportedError, InputError, ParityError) as error:
        return Simplified(model, {"simplified": False, "simplify_reason": one_line(error)[:_LONGEST]})
    return Simplified(candidate, {"simplified": f"onnxsim {version}"})


def run_onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what onnx-simplifier makes of `model`, in a process of its own.

    Raises NotSimplifiedError with what it said when it fails, crashes or takes more than five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="coopexport-simplify-") as folder:
        source, result = Path(folder) / "source.onnx", Path(folder) / "result.onnx"
        source.write_bytes(model.SerializeToString())
        command = [sys.executable, "-c", _SCRIPT, str(source), str(result)]
        try:  # in the folder: one of the user's own may hold an onnx.py
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise NotSimplifiedError(f"onnx-simplifier took more than {_TIMEOUT_S} s") from None
        if done.returncode != 0 or not result.is_file():
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise NotSimplifiedError(f"onnx-simplifier failed ({how}): {said}")
        try:
            made = onnx.load(str(result))
        except Exception as error:  # noqa: BLE001  protobuf's errors are private
            raise NotSimplifiedError(f"onnx-simplifier wrote no model: {one_line(error)}") from None
    del made.graph.value_info[:]  # sizes that it worked out, which the file does not need
    return made


def _version() -> str:
    try:
        return metadata.version("onnxsim")
    except metadata.PackageNotFoundError:
        raise UnsupportedError(
            "a target asks for simplify = true, and onnx-simplifier is not installed",
            fix="pip install 'coopexport[simplify]', or leave the key out",
        ) from None


def _check_same_tensors(model: onnx.ModelProto, candidate: onnx.ModelProto) -> None:
    """Refuse a graph with other inputs, outputs, operator sets or precision."""
    for what in ("input", "output"):
        before, after = (
            [value.SerializeToString(deterministic=True) for value in getattr(one.graph, what)]
            for one in (model, candidate)
        )
        if before != after:
            raise NotSimplifiedError(f"the graph's {what}s changed")
    opsets = [{item.domain: item.version for item in one.opset_import} for one in (model, candidate)]
    domains = {node.domain for node in candidate.graph.node}
    if opsets[0] != opsets[1] or candidate.functions or not domains.issubset(_STANDARD_DOMAINS):
        raise NotSimplifiedError("the graph's operator sets changed")
    if candidate.ir_version > model.ir_version:
        raise NotSimplifiedError(f"the graph's IR version went from {model.ir_version} to {candidate.ir_version}")
    scales = [_quantisers(one) for one in (model, candidate)]
    if scales[0] != scales[1]:  # folded weights are as large as before, and no longer int8
        raise NotSimplifiedError("QuantizeLinear or DequantizeLinear nodes changed")


def _quantisers(model: onnx.ModelProto) -> Counter[str]:
    kinds = ("QuantizeLinear", "DequantizeLinear")
    return Counter(node.op_type for node in model.graph.node if node.op_type in kinds)


def _run(model: onnx.ModelProto, inputs: Arrays, batch: int) -> list[NDArray[Any]]:
    """Return the outputs for all samples, `batch` at a time; the last input fills up the last batch."""
    session = open_session(model, "disabled")
    names = [item.name for item in session.get_inputs()]
    count = len(inputs[0])
    chosen = np.minimum(np.arange(-(-count // batch) * batch), count - 1)
    parts = []
    for start in range(0, len(chosen), batch):
        feed = {name: one[chosen[start : start + batch]] for name, one in zip(names, inputs, strict=True)}
        try:
            parts.append(session.run(None, feed))
        except Exception as error:  # noqa: BLE001  ONNX Runtime's exception types are private
            raise NotSimplifiedError(f"batch {batch} does not run: {one_line(error)}") from None
    return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]


def _check_same_outputs(before: Arrays, after: Arrays, tensors: Sequence[CutTensorRecord]) -> None:
    """Refuse outputs that are further off than an engine's may be."""
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise NotSimplifiedError(f"output {number} is {other.dtype} {other.shape}, and was {one.dtype} {one.shape}")
        if one.tobytes() == other.tobytes():
            continue
        if np.issubdtype(one.dtype, np.floating):
            error = parity.relative_error(one, other, f"output {number}")
            if error > parity.BUILD_BOUND:
                said = f"output {number} changed by {error:.1e} of its spread, the limit is {parity.BUILD_BOUND:.0e}"
                raise NotSimplifiedError(said)
        elif number < len(tensors):
            _check_same_symbols(one, other, tensors[number], number)
        else:
            raise NotSimplifiedError(f"output {number} holds integers, and some changed")


def _check_same_symbols(one: NDArray[Any], other: NDArray[Any], tensor: CutTensorRecord, number: int) -> None:
    symbols = [symbols_of(tensor.feature, item).astype(np.int16) for item in (one, other)]
    difference = np.abs(symbols[0] - symbols[1])
    share = float((difference > 0).mean())
    if difference.max() > 1 or share > _SYMBOL_FRACTION_BOUND:
        raise NotSimplifiedError(
            f"{100 * share:.2f} % of the symbols of output {number} changed, by at most {difference.max()}; allowed "
            f"is {100 * _SYMBOL_FRACTION_BOUND:.1f} %, by 1"
        )
