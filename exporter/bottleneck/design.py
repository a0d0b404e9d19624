"""How far a bottleneck reduces a feature, whether that can be, and how what is left is encoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from exporter.encoding.specification import ClipRange, EncodeSpecification, Packing, affine_specification
from jetson.errors import InputError, UnsupportedError

STRIDES = (1, 2, 4)
# The module that reduces, and so the layer behind which a network with a bottleneck is cut.
REDUCTION = "bottleneck"


@dataclass(frozen=True)
class BottleneckDesign:
    """How far a feature is reduced: `stride` in height and width, `channels` that are left, `bits` of a symbol."""

    stride: int
    channels: int
    bits: int

    def shape(self, feature: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what crosses for a feature of this shape, both without the batch dimension."""
        return (self.channels, *(-(-size // self.stride) for size in feature[1:]))


def bounded_encoding(bits: int, packing: Packing = "none") -> EncodeSpecification:
    """Return how what leaves a bottleneck is encoded: its activation bounds it to 0 and 1, whatever the data."""
    clip = ClipRange((0.0,), (1.0,), "bounded", None, 0, (0.0,), (1.0,))
    return affine_specification(clip, bits, packing)


def check_design(design: BottleneckDesign, feature: Sequence[int], layer: str) -> None:
    """Raise CoopexportError when a feature (its shape without batch) of `layer` cannot be reduced so."""
    if len(feature) not in (1, 3):
        raise UnsupportedError(
            f'layer "{layer}": its feature is {_by(feature)}; a bottleneck reduces maps (channels x height x width) '
            "and vectors",
            layer=layer,
            fix="cut at another layer",
        )
    if design.stride not in STRIDES or not 1 <= design.bits <= 8:
        raise InputError(
            f"a bottleneck has a stride of 1, 2 or 4 and 1 to 8 bits, not {design.stride} and {design.bits}"
        )
    if design.stride > min(feature[1:], default=1):
        raise UnsupportedError(
            f'layer "{layer}": its feature is {_by(feature)}, too small for a stride of {design.stride}',
            layer=layer,
            fix="use a smaller stride, or cut earlier",
        )
    if not design.channels >= 1 or prod(design.shape(feature)) >= prod(feature):
        raise UnsupportedError(
            f'layer "{layer}": {_by(feature)} to {_by(design.shape(feature))} is no reduction',
            layer=layer,
            fix="use fewer channels or a larger stride, or cut elsewhere",
        )


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape)
