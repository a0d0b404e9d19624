"""The image itself as a message: what goes over the link where nothing of the network runs on the device."""

from typing import Any, Sequence

from jetson.wire.message import decode_message, encode_message
from jetson.wire.specification import TensorSpecification


def raw_payload(image: Any) -> bytes:
    """Return the message that carries one image (height x width x 3, uint8) as it is."""
    return encode_message([image], [TensorSpecification("uint8", image.shape)])


def decode_raw(message: bytes, shape: Sequence[int]) -> Any:
    """Return the image of a raw message; raises CoopexportError when it has another shape."""
    return decode_message(message, [TensorSpecification("uint8", tuple(shape))])[0]
