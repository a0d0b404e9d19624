"""Frames for the device: files, a folder, standard input, or a camera where OpenCV is there."""

import os
import sys
import zipfile
from typing import Any, Iterator, Tuple

from jetson.errors import InputError, UnsupportedError, one_line

_NETPBM = (b"P6", b"P5")
_MOST_PIXELS = 1 << 26


def frames_of(source: str, repeat: bool = False) -> Iterator[Any]:
    """Yield images, height x width x 3, RGB, uint8.

    `source`: a .npy file of N x height x width x 3 or one image; an .npz file with `images`; a .ppm file; a folder of
    such files, in the order of their names; "-" for PPM images one after the other on standard input; "camera:0" or any
    GStreamer pipeline "gst:...", through OpenCV. `repeat`: begin anew at the end.
    Raises InputError for what is none of these.
    """
    if source == "-":
        for image in _ppm_stream(sys.stdin.buffer):
            yield image
        return
    if source.startswith(("camera:", "gst:")):
        for image in _camera(source):
            yield image
        return
    while True:
        count = 0
        for path in _files(source):
            for image in _images_in(path):
                count += 1
                yield image
        if not count:
            raise InputError("{} holds no image".format(source), path=source)
        if not repeat:
            return


def _files(source: str) -> Tuple[str, ...]:
    if not os.path.isdir(source):
        return (source,)
    names = sorted(name for name in os.listdir(source) if name.endswith((".npy", ".npz", ".ppm")))
    return tuple(os.path.join(source, name) for name in names)


def _images_in(path: str) -> Iterator[Any]:
    import numpy as np

    try:
        if path.endswith(".ppm"):
            with open(path, "rb") as file:
                for image in _ppm_stream(file):
                    yield image
            return
        loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.endswith(".npy") else None)
        images = loaded["images"] if path.endswith(".npz") else loaded
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("{} holds no images: {}".format(path, one_line(error)), path=path) from None
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(
            "{} holds {} of shape {}; images are uint8, N x height x width x 3".format(
                path, images.dtype, images.shape
            ),
            path=path,
        )
    for image in images:
        yield np.ascontiguousarray(image)


def _ppm_stream(file: Any) -> Iterator[Any]:
    """Yield binary PPM (P6) images of 8 bits, one after the other; PGM (P5) as grey in three channels (netpbm)."""
    import numpy as np

    while True:
        magic = _magic(file)
        if not magic:
            return
        if magic not in _NETPBM:
            raise InputError("an image begins with {!r}; PPM begins with P6".format(magic))
        width, height, largest = _token(file), _token(file), _token(file)
        if not (0 < width * height <= _MOST_PIXELS) or largest != 255:
            raise InputError("a PPM image of {} x {} with values up to {}; it takes 255".format(width, height, largest))
        channels = 3 if magic == b"P6" else 1
        wanted = width * height * channels
        data = file.read(wanted)
        if len(data) != wanted:
            raise InputError("a PPM image ends after {} of {} bytes".format(len(data), wanted))
        image = np.frombuffer(data, np.uint8).reshape(height, width, channels)
        yield image.copy() if channels == 3 else np.repeat(image, 3, axis=2)


def _magic(file: Any) -> bytes:
    """Return the next two bytes that are not blanks; none at the end."""
    byte = file.read(1)
    while byte.isspace():
        byte = file.read(1)
    return byte + file.read(1) if byte else b""


def _token(file: Any) -> int:
    """Return the next number of a PPM header; comments are skipped."""
    digits, byte = b"", file.read(1)
    while byte.isspace() or byte == b"#":
        if byte == b"#":
            while byte not in (b"\n", b""):
                byte = file.read(1)
        byte = file.read(1)
    while byte.isdigit() and len(digits) < 6:
        digits += byte
        byte = file.read(1)
    if not digits or not byte.isspace():
        raise InputError("the header of a PPM image is damaged")
    return int(digits)


def _camera(source: str) -> Iterator[Any]:
    try:
        import cv2
    except ImportError as error:
        raise UnsupportedError(
            "{} needs OpenCV, which cannot be imported ({})".format(source, one_line(error)),
            fix="sudo apt-get install python3-opencv, or give files",
        ) from None
    kind, _, what = source.partition(":")
    if kind == "camera" and not what.isdigit():
        raise InputError("{} is no camera".format(source), fix="give its number, such as camera:0")
    capture = cv2.VideoCapture(int(what)) if kind == "camera" else cv2.VideoCapture(what, cv2.CAP_GSTREAMER)
    try:
        if not capture.isOpened():
            raise InputError("{} cannot be opened by OpenCV".format(source))
        while True:
            found, image = capture.read()
            if not found:
                return
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
