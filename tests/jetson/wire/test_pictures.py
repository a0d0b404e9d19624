"""JPEG and WebP are the files that Pillow reads, coded alike everywhere; what a machine lacks is said with the fix."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image, features

from jetson.errors import UnsupportedError
from jetson.wire.pictures import check_picture_codec, decode_picture, encode_picture, picture_libraries

images = st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def gradient(height: int = 64, width: int = 96) -> np.ndarray:
    """Return a picture that JPEG is made for, with some noise in it."""
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).clip(0, 255)
    noise = np.random.default_rng(0).integers(-8, 9, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


@given(images, st.integers(1, 100))
def test_jpeg_is_the_file(image: np.ndarray, quality: int) -> None:
    payload = encode_picture("jpeg", image, quality)
    assert payload[:2] == b"\xff\xd8"
    assert payload[-2:] == b"\xff\xd9"
    with Image.open(io.BytesIO(payload)) as opened:
        assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", image.shape[1::-1])
        assert np.array_equal(decode_picture(payload), np.asarray(opened))
    assert decode_picture(payload).dtype == np.uint8


@given(images, st.integers(1, 100))
def test_webp_is_the_file(image: np.ndarray, quality: int) -> None:
    payload = encode_picture("webp", image, quality)
    with Image.open(io.BytesIO(payload)) as opened:
        assert (opened.format, opened.size) == ("WEBP", image.shape[1::-1])
        assert np.array_equal(decode_picture(payload), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize(("codec", "most"), [("jpeg", 4.0), ("webp", 6.0)])
def test_quality_costs_bytes_and_buys_exactness(codec: str, most: float) -> None:
    image, qualities = gradient(), (20, 50, 75, 90, 98)
    payloads = [encode_picture(codec, image, quality) for quality in qualities]
    errors = [np.abs(decode_picture(payload).astype(int) - image).mean() for payload in payloads]
    assert [len(payload) for payload in payloads] == sorted({len(payload) for payload in payloads})
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < most
    assert len(payloads[-1]) < image.size


def test_chroma_is_stored_at_half_the_resolution() -> None:
    with Image.open(io.BytesIO(encode_picture("jpeg", gradient(), 90))) as opened:
        assert [component[1:3] for component in opened.layer] == [(2, 2), (1, 1), (1, 1)]


def test_tables_and_method_are_the_smallest_ones() -> None:
    def saved(**settings: object) -> int:
        buffer = io.BytesIO()
        Image.fromarray(gradient()).save(buffer, quality=60, **settings)
        return len(buffer.getvalue())

    assert len(encode_picture("jpeg", gradient(), 60)) < saved(format="JPEG")
    assert len(encode_picture("webp", gradient(), 60)) < saved(format="WEBP", method=0)


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_here_is_all_that_is_needed(codec: str) -> None:
    check_picture_codec(codec)
    assert set(picture_libraries()) >= {"pillow", "libjpeg", "libwebp"}
    assert picture_libraries()["pillow"] == PIL.__version__


def test_without_pillow_the_reason_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    said = rf"{sys.executable} has no Pillow, which codes jpeg; install it: {sys.executable} -m pip install pillow$"
    with pytest.raises(UnsupportedError, match=said):
        check_picture_codec("jpeg")
    assert picture_libraries() == {}


def test_a_broken_pillow_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("PIL")
    broken.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PIL", broken)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UnsupportedError, match=r"^Pillow cannot be imported \(.*\); install it anew: .* pillow$"):
        check_picture_codec("webp")


def test_a_pillow_without_a_codec_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "webp")
    check_picture_codec("jpeg")
    with pytest.raises(UnsupportedError, match=r"^Pillow .* was built without webp; install one with it: .* pillow$"):
        check_picture_codec("webp")


@pytest.mark.parametrize("version", ["5.1.0", "7.1.2"])
def test_a_pillow_that_does_not_take_the_method_of_webp_is_refused_for_webp(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(PIL, "__version__", version)
    check_picture_codec("jpeg")
    with pytest.raises(UnsupportedError, match=rf'^Pillow {version} codes WebP by another method.* "pillow>=7.2"$'):
        check_picture_codec("webp")
    monkeypatch.setattr(PIL, "__version__", "7.2.0.dev0")
    check_picture_codec("webp")
