"""The image as a payload: raw comes back bit for bit, and each coding is called by what is done to the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from jetson.errors import CoopexportError
from jetson.wire.image_message import (
    IMAGE_CODINGS,
    ImageCoding,
    decode_image,
    decode_raw,
    encode_image,
    is_resized,
    raw_payload,
    resized_name,
)
from jetson.wire.pictures import decode_picture, encode_picture

images = st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


@given(images)
def test_raw_comes_back_bit_for_bit(image: np.ndarray) -> None:
    message = raw_payload(image)
    assert np.array_equal(decode_raw(message, image.shape), image)
    assert len(message) - image.size == 5  # the header


def test_raw_of_another_size_is_refused() -> None:
    with pytest.raises(CoopexportError, match="not of the same cut"):
        decode_raw(raw_payload(np.zeros((64, 96, 3), np.uint8)), (64, 95, 3))


def test_each_coding_has_a_name_and_says_whether_the_image_was_resized() -> None:
    assert IMAGE_CODINGS == ("raw", "jpeg", "webp", "resized-raw", "resized-jpeg", "resized-webp")
    assert [ImageCoding(name).codec for name in IMAGE_CODINGS] == ["raw", "jpeg", "webp"] * 2
    assert [ImageCoding(name).is_resized for name in IMAGE_CODINGS] == [False] * 3 + [True] * 3
    assert [is_resized(name) for name in ("resized-jpeg q40", "jpeg q40")] == [True, False]
    assert resized_name("webp") == "resized-webp"


@given(images, st.integers(1, 95))
def test_a_coding_is_its_codec_at_its_quality(image: np.ndarray, quality: int) -> None:
    for name in ("jpeg", "resized-jpeg"):
        payload = encode_image(ImageCoding(name, quality), image)
        assert payload == encode_picture("jpeg", image, quality)
        assert np.array_equal(decode_image(ImageCoding(name, quality), payload, ()), decode_picture(payload))
    for name in ("raw", "resized-raw"):
        payload = encode_image(ImageCoding(name), image)
        assert np.array_equal(decode_image(ImageCoding(name), payload, image.shape), image)
