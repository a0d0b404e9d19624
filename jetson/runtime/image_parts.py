"""What images go through around the whole network, as functions to time: the same on host and device.

A device that uploads an image codes it, resized first where its coding says so; the edge decodes it and does what is
left of preprocessing.
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from jetson.runtime import preprocessing
from jetson.runtime.cycle import Cycle
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


def preprocess(declaration: Preprocessing, image: Any) -> Any:
    """Return one image (height x width x 3, RGB, uint8) as exported graphs take it: 1 x ..., always float32."""
    return preprocessing.apply(declaration, image[None]).astype(np.float32, copy=False)


def open_image_part(
    declaration: Preprocessing, images: Sequence[Any], part: str, codec: Optional[str], codings: Sequence[ImageCoding]
) -> Callable[[], Any]:
    """Return what runs when a part is timed, on each of `images` (height x width x 3, RGB, uint8) in turn.

    `part`, `codec`: of `image_parts(codings)`, or "preprocess" without a codec. Raises CoopexportError when an image is
    too small to crop, and what Pillow raises where it lacks a picture codec.
    """
    if part == PREPROCESS and codec is None:
        arrived = Cycle(images)
        return lambda: preprocess(declaration, arrived())
    if part == PREPROCESS:
        left = preprocessing.after_resizing(declaration)
        resized = Cycle([preprocessing.resized(declaration, image) for image in images])
        return lambda: preprocess(left, resized())
    coding = next(one for one in codings if one.name == codec)
    if part == ENCODE:
        to_code = Cycle(images)
        return lambda: encode_image(coding, as_sent(declaration, coding, to_code()))
    sent = [as_sent(declaration, coding, image) for image in images]
    payloads, shape = Cycle([encode_image(coding, image) for image in sent]), sent[0].shape
    return lambda: decode_image(coding, payloads(), shape)
