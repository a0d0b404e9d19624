"""The image on the wire: raw comes back bit for bit, JPEG is measured as the file that it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from calibration.codecs.input_coding import (
    CodedPictures,
    decode_picture,
    jpeg_payload,
    lowest_quality,
    payload_statistics,
    webp_payload,
)
from jetson.errors import CoopexportError
from jetson.wire.image_message import decode_raw, raw_payload

images = st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def gradient(height: int = 64, width: int = 96) -> np.ndarray:
    """Return a picture that JPEG is made for, with some noise in it."""
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).clip(0, 255)
    noise = np.random.default_rng(0).integers(-8, 9, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


@given(images)
def test_raw_comes_back_bit_for_bit(image: np.ndarray) -> None:
    message = raw_payload(image)
    assert np.array_equal(decode_raw(message, image.shape), image)
    assert len(message) - image.size == 5  # the header


def test_raw_of_another_size_is_refused() -> None:
    with pytest.raises(CoopexportError, match="not of the same cut"):
        decode_raw(raw_payload(gradient()), (64, 95, 3))


@given(images, st.integers(1, 100))
def test_jpeg_payload_is_the_file(image: np.ndarray, quality: int) -> None:
    payload = jpeg_payload(image, quality)
    assert payload[:2] == b"\xff\xd8"
    assert payload[-2:] == b"\xff\xd9"
    with Image.open(io.BytesIO(payload)) as opened:
        assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", image.shape[1::-1])
        assert np.array_equal(decode_picture(payload), np.asarray(opened))
    assert decode_picture(payload).dtype == np.uint8


def test_quality_costs_bytes_and_buys_exactness() -> None:
    image = gradient()
    sizes = [len(jpeg_payload(image, quality)) for quality in (20, 50, 75, 90, 98)]
    errors = [
        np.abs(decode_picture(jpeg_payload(image, quality)).astype(int) - image).mean()
        for quality in (20, 50, 75, 90, 98)
    ]
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 4
    assert sizes[-1] < image.size


@given(images, st.integers(1, 100))
def test_webp_payload_is_the_file(image: np.ndarray, quality: int) -> None:
    payload = webp_payload(image, quality)
    with Image.open(io.BytesIO(payload)) as opened:
        assert (opened.format, opened.size) == ("WEBP", image.shape[1::-1])
        assert np.array_equal(decode_picture(payload), np.asarray(opened.convert("RGB")))


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
    assert sizes == tuple(len(webp_payload(image, 40)) for image in (gradient(), gradient()[::-1]))
    assert np.array_equal(arrived[1], decode_picture(webp_payload(gradient()[::-1], 40)))
    assert pictures.coded("webp", 40)[0] is arrived


def test_chroma_is_stored_at_half_the_resolution() -> None:
    with Image.open(io.BytesIO(jpeg_payload(gradient(), 90))) as opened:
        assert [component[1:3] for component in opened.layer] == [(2, 2), (1, 1), (1, 1)]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_statistics_of_sizes(sizes: list[int]) -> None:
    found = payload_statistics(sizes)
    assert (found.min, found.max, found.samples) == (min(sizes), max(sizes), len(sizes))
    assert found.mean == pytest.approx(sum(sizes) / len(sizes))
