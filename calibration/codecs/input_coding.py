"""The image itself on the wire, raw, as JPEG or as WebP: what a split has to beat, each at its best."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import PayloadBytes

# Above it JPEG files grow for nothing.
HIGHEST_QUALITY = 95
# Of coded images, where many networks ask for the same ones.
_KEPT_BYTES = 1 << 28
PictureCodec: TypeAlias = Literal["jpeg", "webp"]


def jpeg_payload(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return one image (height x width x 3, uint8) as a JPEG file, optimised tables, Pillow's 4:2:0.

    The file is the whole payload: JPEG brings its own header.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def webp_payload(image: NDArray[np.uint8], quality: int) -> bytes:
    """Return one image (height x width x 3, uint8) as a lossy WebP file, the slowest and smallest method."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", quality=quality, method=6)
    return buffer.getvalue()


# Bytes of an image at a quality, by what `whole.json` calls the codec.
PICTURE_PAYLOADS: dict[PictureCodec, Callable[[NDArray[np.uint8], int], bytes]] = {
    "jpeg": jpeg_payload,
    "webp": webp_payload,
}


class CodedPictures:
    """Images (N x height x width x 3, uint8) as a picture codec sends them; what was coded is kept for a while."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        kept = max(1, _KEPT_BYTES // max(1, images.nbytes))
        self._images, self.coded = images, lru_cache(kept)(self._coded)

    def _coded(self, codec: PictureCodec, quality: int) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
        """Return the images as they arrive, and the bytes of each."""
        payloads = [PICTURE_PAYLOADS[codec](image, quality) for image in self._images]
        return np.stack([decode_picture(payload) for payload in payloads]), tuple(map(len, payloads))


def lowest_quality(loss_points: Callable[[int], float], maximum_loss_points: float) -> int:
    """Return the lowest quality, 1 to 95, that loses at most so many points, found by bisection; 95 where none does.

    `loss_points`: of the metric at a quality, which falls where that rises, but for noise.
    """
    low, high = 1, HIGHEST_QUALITY
    while low < high:
        middle = (low + high) // 2
        if keeps_bound(loss_points(middle), maximum_loss_points):
            high = middle
        else:
            low = middle + 1
    return high


def decode_picture(payload: bytes) -> NDArray[np.uint8]:
    """Return the image (height x width x 3, uint8) of a JPEG or WebP file."""
    with Image.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def payload_statistics(sizes: Sequence[int]) -> PayloadBytes:
    """Return the record of message sizes in bytes, one per image."""
    return PayloadBytes(mean=float(np.mean(sizes)), min=min(sizes), max=max(sizes), samples=len(sizes))
