"""The image itself as a message: what goes over the link where nothing of the network runs on the device."""

from typing import Any, NamedTuple, Optional, Sequence

from jetson.wire.message import decode_message, encode_message
from jetson.wire.pictures import PICTURE_CODECS, decode_picture, encode_picture
from jetson.wire.specification import TensorSpecification

RAW = "raw"
# Of an image that the device has resized and cropped to the network's input before it is coded.
RESIZED = "resized"
_PREFIX = RESIZED + "-"
IMAGE_CODINGS = tuple(prefix + codec for prefix in ("", _PREFIX) for codec in (RAW,) + PICTURE_CODECS)


class ImageCoding(NamedTuple):
    """A way to send an image: its `name`, one of IMAGE_CODINGS, and the `quality` of a picture codec, None for raw."""

    name: str
    quality: Optional[int] = None

    @property
    def is_resized(self) -> bool:
        """Tell whether the image is resized and cropped before it is coded."""
        return is_resized(self.name)

    @property
    def codec(self) -> str:
        """Return what codes it: raw, jpeg or webp."""
        return self.name[len(_PREFIX) :] if self.is_resized else self.name


def is_resized(name: str) -> bool:
    """Tell whether a coding of this name sends the image resized: "resized-jpeg" does, "jpeg" does not."""
    return name.startswith(_PREFIX)


def resized_name(codec: str) -> str:
    """Return the name of the coding that sends the image resized: "resized-jpeg" for "jpeg"."""
    return _PREFIX + codec


def encode_image(coding: ImageCoding, image: Any) -> bytes:
    """Return the payload of one image, height x width x 3, RGB, uint8, which is resized already where it has to be."""
    if coding.quality is None:
        return raw_payload(image)
    return encode_picture(coding.codec, image, coding.quality)


def decode_image(coding: ImageCoding, payload: bytes, shape: Sequence[int]) -> Any:
    """Return the image that `encode_image` was given, as far as its codec keeps it; `shape`: of that image.

    Raises CoopexportError when a raw message has another shape.
    """
    return decode_raw(payload, shape) if coding.quality is None else decode_picture(payload)


def raw_payload(image: Any) -> bytes:
    """Return the message that carries one image (height x width x 3, uint8) as it is."""
    return encode_message([image], [TensorSpecification("uint8", image.shape)])


def decode_raw(message: bytes, shape: Sequence[int]) -> Any:
    """Return the image of a raw message; raises CoopexportError when it has another shape."""
    return decode_message(message, [TensorSpecification("uint8", tuple(shape))])[0]
