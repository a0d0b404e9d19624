"""What is timed of an image is what it goes through, and an image that is resized first gives the same input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jetson.errors import InputError
from jetson.runtime.image_parts import image_parts, open_image_part
from jetson.runtime.preprocessing import Preprocessing, after_resizing, apply, resized, resizes
from jetson.wire.image_message import ImageCoding

TINY = Preprocessing(resize=32, crop=(32, 32), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3)).astype(np.uint8)
CODINGS = [ImageCoding("raw"), ImageCoding("jpeg", 80), ImageCoding("resized-raw"), ImageCoding("resized-jpeg", 60)]


def by_pillow(frame: np.ndarray) -> np.ndarray:
    """Return a frame resized to 32 x 42 and cropped to 32 x 32 by Pillow."""
    small = Image.fromarray(frame).resize((42, 32), Image.Resampling.BILINEAR)
    return np.asarray(small.crop((5, 0, 37, 32)))


@given(
    st.integers(20, 70),
    st.integers(20, 70),
    st.sampled_from([None, 16, (16, 24), 40]),
    st.sampled_from([None, (8, 12), (16, 16)]),
    st.sampled_from(["nearest", "bilinear", "bilinear-antialias"]),
    st.sampled_from(["RGB", "BGR", "GRAY"]),
    st.sampled_from(["NCHW", "NHWC"]),
)
def test_resizing_first_gives_the_same_bits(
    height: int, width: int, size: int | tuple[int, int] | None, crop: tuple[int, int] | None, interpolation: str,
    order: str, layout: str,
) -> None:  # fmt: skip
    declaration = Preprocessing(layout, order, size, interpolation, crop, 1 / 128, (1.0,), (0.5,))
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    small = resized(declaration, image)
    assert small.dtype == np.uint8
    left = after_resizing(declaration)
    assert (resizes(declaration), resizes(left)) == (size is not None or crop is not None, False)
    assert apply(left, [small]).tobytes() == apply(declaration, [image]).tobytes()


def test_what_is_sent_is_what_pillow_resizes_within_a_level() -> None:
    for frame in FRAMES:
        found = resized(TINY, frame)
        assert found.shape == (32, 32, 3)
        assert np.abs(found.astype(int) - by_pillow(frame)).max() <= 1


def test_an_image_that_is_too_small_to_crop_is_refused() -> None:
    with pytest.raises(InputError, match=r"smaller than preprocessing\.crop"):
        resized(TINY._replace(resize=None), FRAMES[0][:20])


def test_the_parts_of_codings_are_what_each_side_does() -> None:
    assert image_parts(CODINGS[:2]) == [("encode", "raw"), ("decode", "raw"), ("encode", "jpeg"), ("decode", "jpeg")]
    assert image_parts(CODINGS)[4:] == [
        ("preprocess", "resized"),
        ("encode", "resized-raw"),
        ("decode", "resized-raw"),
        ("encode", "resized-jpeg"),
        ("decode", "resized-jpeg"),
    ]


def test_what_runs_is_the_way_of_an_image_sample_by_sample() -> None:
    runs = {
        one: open_image_part(TINY, list(FRAMES), *one, CODINGS) for one in [("preprocess", None), *image_parts(CODINGS)]
    }
    for number in range(9):
        frame = FRAMES[number // 3]  # each sample takes its turn, twice untimed and once timed
        found = {one: run() for one, run in runs.items()}
        expected = (by_pillow(frame) / 255 - TINY.mean) / TINY.std
        level = 1 / 255 / 0.2
        for part in (("preprocess", None), ("preprocess", "resized")):
            assert (found[part].shape, found[part].dtype) == ((1, 3, 32, 32), np.float32)
            assert np.abs(found[part][0].transpose(1, 2, 0) - expected).max() <= 1.01 * level
        assert np.array_equal(found["preprocess", None], found["preprocess", "resized"])
        assert np.array_equal(found["decode", "raw"], frame)
        assert np.abs(found["decode", "resized-raw"].astype(int) - by_pillow(frame)).max() <= 1
        for coding, size in (("jpeg", (64, 48)), ("resized-jpeg", (32, 32))):
            with Image.open(io.BytesIO(found["encode", coding])) as opened:
                assert (opened.format, opened.size) == ("JPEG", size)
                assert np.array_equal(found["decode", coding], np.asarray(opened))
        assert len(found["encode", "resized-raw"]) == 3 * 32 * 32 + 5
