"""The image itself on the wire, raw or as JPEG: the baselines that a split has to beat."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporter.bundles.bundle import PayloadBytes
from jetson.wire.message import decode_message, encode_message
from jetson.wire.specification import TensorSpecification


def raw_payload(image: NDArray[np.uint8]) -> bytes:
    """Return the message that carries one image (height x width x 3, uint8) as it is."""
    return encode_message([image], [TensorSpecification("uint8", image.shape)])


def decode_raw(message: bytes, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return the image of a raw message; raises CoopexportError when it has another shape."""
    return decode_message(message, [TensorSpecification("uint8", tuple(shape))])[0]


def jpeg_payload(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return one image (height x width x 3, uint8) as a JPEG file, optimised tables, Pillow's 4:2:0.

    The file is the whole payload: JPEG brings its own header.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def decode_jpeg(payload: bytes) -> NDArray[np.uint8]:
    """Return the image (height x width x 3, uint8) of a JPEG file."""
    with Image.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def payload_statistics(sizes: Sequence[int]) -> PayloadBytes:
    """Return the record of message sizes in bytes, one per image."""
    return PayloadBytes(mean=float(np.mean(sizes)), min=min(sizes), max=max(sizes), samples=len(sizes))
