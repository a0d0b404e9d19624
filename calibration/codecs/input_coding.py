"""The image itself on the wire, raw, as JPEG or as WebP: what a split has to beat, each at its best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import PayloadBytes
from jetson.wire.pictures import decode_picture, encode_picture

# Above it JPEG files grow for nothing.
HIGHEST_QUALITY = 95
# Of coded images, where many networks ask for the same ones.
_KEPT_BYTES = 1 << 28


class CodedPictures:
    """Images (N x height x width x 3, uint8) as a picture codec sends them; what was coded is kept for a while."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        kept = max(1, _KEPT_BYTES // max(1, images.nbytes))
        self._images, self.coded = images, lru_cache(kept)(self._coded)

    def _coded(self, codec: str, quality: int) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
        """Return the images as they arrive, and the bytes of each."""
        payloads = [encode_picture(codec, image, quality) for image in self._images]
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


def payload_statistics(sizes: Sequence[int]) -> PayloadBytes:
    """Return the record of message sizes in bytes, one per image."""
    return PayloadBytes(mean=float(np.mean(sizes)), min=min(sizes), max=max(sizes), samples=len(sizes))
