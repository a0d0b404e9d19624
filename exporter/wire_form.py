"""Between the head's outputs, the message, and the tail's inputs: what of an encoded tensor goes on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.encoding import EncodeSpecification, symbols_of
from jetson.wire import TensorSpecification
from jetson.wire.symbol_model import SymbolModel


def wire_specification(
    encoding: EncodeSpecification, shape: Sequence[int], codec: str, model: SymbolModel | None = None, batch: int = 1
) -> TensorSpecification:
    """Return what a message holds of a feature of `shape` (without the batch dimension) that is encoded so.

    `codec`: of jetson.wire.CODEC_NAMES; `model`: the tables of an entropy codec.
    """
    sent = (batch, *encoding.symbol_shape(shape))
    if encoding.kind != "affine":
        return TensorSpecification(encoding.symbol_dtype, sent, codec)
    if encoding.packing == "words":
        sent = (batch, 4 * sent[1])
    packed = encoding.packing != "none" and encoding.bits < 8
    return TensorSpecification("uint8", sent, codec, encoding.bits, packed, model)


def to_wire(encoding: EncodeSpecification, sent: NDArray[Any]) -> NDArray[Any]:
    """Return what goes into the message of what left the head: words as their bytes, all else as it is."""
    return sent.astype("<i4").view(np.uint8) if encoding.packing == "words" else sent


def from_wire(encoding: EncodeSpecification, arrived: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return what the tail takes of what came out of the message, for a feature of `shape` (without batch).

    The words of a head without uint8 arrive as bytes, and their symbols go into the tail one int32 each: to take them
    apart there would need integer division, which rounds differently from one runtime to the next.
    """
    if encoding.packing != "words":
        return arrived
    return symbols_of(encoding, np.ascontiguousarray(arrived).view("<i4"), shape).astype(np.int32)
