"""Pictures are measured as the files that they are; the lowest quality within a bound is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.codecs.input_coding import CodedPictures, lowest_quality, payload_statistics
from jetson.wire.pictures import decode_picture, encode_picture


def gradient(height: int = 64, width: int = 96) -> np.ndarray:
    """Return a picture that JPEG is made for, with some noise in it."""
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).clip(0, 255)
    noise = np.random.default_rng(0).integers(-8, 9, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


@given(st.integers(1, 96))
def test_the_lowest_quality_is_the_one_below_which_the_bound_is_broken(first: int) -> None:
    asked: list[int] = []

    def loss_points(quality: int) -> float:
        asked.append(quality)
        return 1.0 if quality >= first else 1.01

    assert lowest_quality(loss_points, 1.0) == min(first, 95)
    assert len(asked) <= 7


def test_pictures_arrive_as_their_files_say() -> None:
    pictures = CodedPictures(np.stack([gradient(), gradient()[::-1]]))
    arrived, sizes = pictures.coded("webp", 40)
    assert sizes == tuple(len(encode_picture("webp", image, 40)) for image in (gradient(), gradient()[::-1]))
    assert np.array_equal(arrived[1], decode_picture(encode_picture("webp", gradient()[::-1], 40)))
    assert pictures.coded("webp", 40)[0] is arrived


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_statistics_of_sizes(sizes: list[int]) -> None:
    found = payload_statistics(sizes)
    assert (found.min, found.max, found.samples) == (min(sizes), max(sizes), len(sizes))
    assert found.mean == pytest.approx(sum(sizes) / len(sizes))
