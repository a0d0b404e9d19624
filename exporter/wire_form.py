"""Between the head's outputs, the message, and the tail's inputs: what of an encoded tensor goes on the wire.

Symbols do, one by one in the feature's shape, however the head has packed them: the codec packs or codes them as it can
do best, with their neighbours in view. Floats go as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.encoding import EncodeSpecification, pack, symbols_of
from jetson.wire import TensorSpecification
from jetson.wire.symbol_model import SymbolModel


def wire_specification(
    encoding: EncodeSpecification, shape: Sequence[int], codec: str, model: SymbolModel | None = None, batch: int = 1
) -> TensorSpecification:
    """Return what a message holds of a feature of `shape` (without the batch dimension) that is encoded so.

    `codec`: of jetson.wire.CODEC_NAMES; `model`: the tables of an entropy codec.
    """
    sent = (batch, *shape)
    if encoding.kind != "affine":
        return TensorSpecification(encoding.symbol_dtype, sent, codec)
    return TensorSpecification("uint8", sent, codec, encoding.bits, model=model)


def to_wire(encoding: EncodeSpecification, sent: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return what goes into the message of what left the head for a feature of `shape` (without batch)."""
    return symbols_of(encoding, sent, shape) if encoding.kind == "affine" else sent


def from_wire(encoding: EncodeSpecification, arrived: NDArray[Any]) -> NDArray[Any]:
    """Return what the tail takes of what came out of the message.

    Behind a head of int32, which is one without uint8, that is one int32 for each symbol: to take words apart in the
    graph would need integer division, which rounds differently from one runtime to the next.
    """
    if encoding.packing in ("words", "integers"):
        return arrived.astype(np.int32)
    return pack(encoding, arrived) if encoding.packing == "bytes" else arrived
