"""Encodings whose range does not come from data."""

from __future__ import annotations

from exporter.encoding.specification import ClipRange, EncodeSpecification, affine_specification


def specification(bits: int, packing: str = "none", channels: int = 1) -> EncodeSpecification:
    lows = tuple(-0.5 - 0.1 * index for index in range(channels))
    highs = tuple(3.0 + index for index in range(channels))
    return affine_specification(ClipRange(lows, highs, "minmax", None, 16, lows, highs), bits, packing)  # type: ignore[arg-type]
