"""What images go through around the whole network, as functions to time: the same on host and device.

A device that uploads an image codes it, resized first where its coding says so; the edge decodes it and does what is
left of preprocessing.
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from jetson.engines.golden_check import in_batches
from jetson.runtime import preprocessing
from jetson.runtime.cycle import Cycle, calls_in_turn
from jetson.runtime.preprocessing import Preprocessing
from jetson.wire.image_message import RESIZED, ImageCoding, decode_image, encode_image

PREPROCESS, ENCODE, DECODE = "preprocess", "encode", "decode"
# The part of a latency run, and its codec: a coding's name, or what preprocessing begins with.
ImagePart = Tuple[str, Optional[str]]


def image_parts(codings: Sequence[ImageCoding]) -> List[ImagePart]:
    """Return the parts of these codings, beside the preprocessing of the image as it arrives.

    What is left of preprocessing where the image arrives resized is `("preprocess", "resized")`.
    """
    found: List[ImagePart] = []
    for coding in codings:
        if coding.is_resized and (PREPROCESS, RESIZED) not in found:
            found.append((PREPROCESS, RESIZED))
        found += [(ENCODE, coding.name), (DECODE, coding.name)]
    return found


def as_sent(declaration: Preprocessing, coding: ImageCoding, image: Any) -> Any:
    """Return what of an image (height x width x 3, RGB, uint8) is coded: all of it, or resized and cropped."""
    return preprocessing.resized(declaration, image) if coding.is_resized else image


def open_image_part(
    declaration: Preprocessing,
    images: Sequence[Any],
    part: str,
    codec: Optional[str],
    codings: Sequence[ImageCoding],
    batch: int = 1,
) -> Callable[[], Any]:
    """Return what runs when a part is timed, on `batch` of `images` (height x width x 3, RGB, uint8) at a time in turn.

    `part`, `codec`: of `image_parts(codings)`, or "preprocess" without a codec. Raises CoopexportError when an image is
    too small to crop, and what Pillow raises where it lacks a picture codec.
    """
    if part == PREPROCESS and codec is None:
        return _prepare_in_turn(declaration, images, batch)
    if part == PREPROCESS:
        resized = [preprocessing.resized(declaration, image) for image in images]
        return _prepare_in_turn(preprocessing.after_resizing(declaration), resized, batch)
    coding = next(one for one in codings if one.name == codec)
    if part == ENCODE:
        return calls_in_turn(lambda image: encode_image(coding, as_sent(declaration, coding, image)), images, batch)
    sent = [as_sent(declaration, coding, image) for image in images]
    payloads, shape = [encode_image(coding, image) for image in sent], sent[0].shape
    return calls_in_turn(lambda payload: decode_image(coding, payload, shape), payloads, batch)


def _prepare_in_turn(declaration: Preprocessing, images: Sequence[Any], batch: int) -> Callable[[], Any]:
    groups = Cycle([group for (group,) in in_batches([np.stack(images)], batch)])
    return lambda: preprocessing.network_inputs(declaration, groups())
