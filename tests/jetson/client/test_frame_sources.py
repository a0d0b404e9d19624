"""Frames from files, folders and standard input: the pixels that Pillow sees; anything else is one error."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from jetson.client.frame_sources import frames_of
from jetson.errors import InputError, UnsupportedError

IMAGES = np.random.RandomState(3).randint(0, 256, (4, 5, 7, 3)).astype(np.uint8)


def ppm(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PPM")
    return buffer.getvalue()


def same(found, wanted):
    found = list(found)
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_in_files(tmp_path):
    np.save(tmp_path / "many.npy", IMAGES)
    np.save(tmp_path / "one.npy", IMAGES[1])
    np.savez(tmp_path / "named.npz", images=IMAGES)
    same(frames_of(str(tmp_path / "many.npy")), IMAGES)
    same(frames_of(str(tmp_path / "one.npy")), IMAGES[1:2])
    same(frames_of(str(tmp_path / "named.npz")), IMAGES)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b.ppm").write_bytes(ppm(IMAGES[1]))
    (tmp_path / "a.ppm").write_bytes(ppm(IMAGES[0]))
    np.save(tmp_path / "c.npy", IMAGES[2:])
    (tmp_path / "notes.txt").write_text("no image")
    same(frames_of(str(tmp_path)), IMAGES)


def test_images_that_are_repeated_begin_anew(tmp_path):
    np.save(tmp_path / "many.npy", IMAGES)
    source = frames_of(str(tmp_path / "many.npy"), repeat=True)
    same([next(source) for _ in range(8)], [*IMAGES, *IMAGES])


@pytest.mark.parametrize("between", [b"", b"\n"])
def test_images_one_after_the_other_on_standard_input(monkeypatch, between):
    data = between.join(map(ppm, IMAGES))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    same(frames_of("-"), IMAGES)


def test_grey_images_and_comments(monkeypatch):
    grey = IMAGES[0, :, :, 0]
    data = ppm(grey).replace(b"P5\n", b"P5\n# a comment\n", 1)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    same(frames_of("-"), [np.stack([grey] * 3, axis=2)])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.npy", b"", "holds no images"),
        ("broken.npz", b"PK not a zip", "holds no images"),
        ("text.ppm", b"hello", "begins with"),
        ("short.ppm", b"P6 4 4 255\nxyz", "ends after 3 of 48"),
        ("deep.ppm", b"P6 4 4 65535\n" + bytes(96), "values up to 65535"),
        ("huge.ppm", b"P6 99999 99999 255\n", "99999 x 99999"),
        ("header.ppm", b"P6 4 x", "header"),
    ],
)
def test_what_is_no_image_is_one_error(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        list(frames_of(str(tmp_path / name)))


def test_other_arrays_and_places_are_refused(tmp_path):
    np.save(tmp_path / "floats.npy", IMAGES.astype(np.float32))
    (tmp_path / "empty").mkdir()
    for source, said in (
        (tmp_path / "floats.npy", "float32"),
        (tmp_path / "nowhere.npy", "nowhere"),
        (tmp_path / "empty", "no image"),
    ):
        with pytest.raises(InputError, match=said):
            list(frames_of(str(source)))


def test_a_camera_needs_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UnsupportedError, match="OpenCV"):
        list(frames_of("camera:0"))
