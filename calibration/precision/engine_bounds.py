"""How far an engine may be from the golden data of its precision: from how far that precision is from float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.precision.subject import PairRun, Subject
from exporter import parity
from exporter.bundles.bundle import BoundaryTensor
from exporter.bundles.precision_file import Rounding
from exporter.onnx_graphs.session import open_session, run
from jetson.wire.feature import symbols_of

# Docs: what a float32 engine may differ by.
SYMBOL_FRACTION_BOUND = 1e-3
# An engine rounds in other places than ONNX Runtime; as much again as the precision itself costs is no other network.
_FACTOR = 2.0


def bounds_of(subject: Subject, role: str, lowered: onnx.ModelProto, inputs: Sequence[NDArray[Any]]) -> Rounding:
    """Return the bounds of an engine of one part: twice the distance of `lowered` (runnable) from float32, and at least
    those of a float32 engine; at most 1, which an order to a device takes as well.

    `inputs`: what the golden data give the part.
    """
    expected = run(open_session(subject.graphs[role], "disabled"), inputs)
    found = run(open_session(lowered, "disabled"), inputs)
    measured = _between(subject.tensors if role == "head" else (), expected, found, f"{subject.layer} {role}")
    return Rounding(
        output_error=max(parity.BUILD_BOUND, min(1.0, _FACTOR * measured.output_error)),
        symbol_fraction=max(SYMBOL_FRACTION_BOUND, min(1.0, _FACTOR * measured.symbol_fraction)),
        symbol_difference=1 if measured.symbol_difference <= 1 else round(_FACTOR * measured.symbol_difference),
    )


def rounding_between(subject: Subject, reference: PairRun, found: PairRun) -> Rounding:
    """Return how far two runs of all parts are apart: symbols, exits and outputs together."""
    expected = [*reference.sent, *reference.exits, *reference.outputs]
    return _between(subject.tensors, expected, [*found.sent, *found.exits, *found.outputs], subject.layer)


def _between(
    tensors: Sequence[BoundaryTensor], expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], where: str
) -> Rounding:
    """Compare arrays, of which the first belong to `tensors`: symbols are counted, numbers compared by their spread."""
    error, fraction, largest = 0.0, 0.0, 0
    for place, (one, other) in enumerate(zip(expected, found, strict=True)):
        item = tensors[place] if place < len(tensors) else None
        if item is not None and item.encoding.kind == "affine":
            first, second = (symbols_of(item.feature, array).astype(np.int16) for array in (one, other))
            difference = np.abs(first - second)
            fraction = max(fraction, float((difference > 0).mean()))
            largest = max(largest, int(difference.max(initial=0)))
        elif one.dtype.kind == "f":
            error = max(error, parity.relative_error(one, other, where))
    return Rounding(output_error=error, symbol_fraction=fraction, symbol_difference=largest)
