"""How far a feature can be reduced, and how what is left is encoded."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.bottleneck.design import BottleneckDesign, bounded_encoding, check_design
from exporter.encoding.specification import decode, encode
from jetson.errors import InputError, UnsupportedError


@pytest.mark.parametrize(
    ("feature", "design", "shape"),
    [
        ((16, 16, 16), BottleneckDesign(2, 4, 2), (4, 8, 8)),
        ((16, 7, 9), BottleneckDesign(2, 3, 2), (3, 4, 5)),
        ((16, 7, 9), BottleneckDesign(4, 3, 2), (3, 2, 3)),
        ((512,), BottleneckDesign(1, 32, 4), (32,)),
    ],
)
def test_the_shape_that_crosses(feature: tuple[int, ...], design: BottleneckDesign, shape: tuple[int, ...]) -> None:
    check_design(design, feature, "pool1")
    assert design.shape(feature) == shape


@pytest.mark.parametrize(
    ("feature", "design", "said"),
    [
        ((16, 49), BottleneckDesign(1, 4, 2), r'layer "pool1": its feature is 16x49; a bottleneck reduces maps'),
        ((16, 1, 9), BottleneckDesign(2, 4, 2), "16x1x9, too small for a stride of 2"),
        ((4, 4, 4), BottleneckDesign(1, 4, 2), "4x4x4 to 4x4x4 is no reduction"),
        ((8,), BottleneckDesign(1, 9, 2), "8 to 9 is no reduction"),
    ],
)
def test_what_cannot_be_reduced_is_named(feature: tuple[int, ...], design: BottleneckDesign, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        check_design(design, feature, "pool1")


def test_strides_and_bits_are_few() -> None:
    for design in (BottleneckDesign(3, 1, 2), BottleneckDesign(1, 1, 9), BottleneckDesign(1, 1, 0)):
        with pytest.raises(InputError, match="a stride of 1, 2 or 4 and 1 to 8 bits"):
            check_design(design, (16, 16, 16), "pool1")


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_range_is_that_of_the_activation(bits: int) -> None:
    encoding, top = bounded_encoding(bits), (1 << bits) - 1
    ends = np.array([[0.0, 1.0, 0.49 / top, 0.51 / top]], np.float32)
    symbols = encode(encoding, ends)
    assert symbols.tolist() == [[0, top, 0, 1]]
    assert np.allclose(decode(encoding, symbols), [[0, 1, 0, 1 / top]])
