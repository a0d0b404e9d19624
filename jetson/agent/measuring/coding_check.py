"""Whether this machine codes images as the one that made the order did: else its times are of something else."""

from typing import Any, Optional, Sequence

from jetson.errors import ParityError
from jetson.requests.archive import Archive
from jetson.requests.measurement import CodedImages, ImageInput, read_decoded
from jetson.runtime import preprocessing
from jetson.runtime.image_parts import as_sent
from jetson.wire.image_message import RAW, decode_image, encode_image
from jetson.wire.pictures import check_picture_codec, picture_libraries

# Other versions decide otherwise here and there: libwebp 1.1 and 1.6 by up to 3 % of the bytes and three quarters of
# what coding changes the image by, libjpeg 9 and libjpeg-turbo by 0.6 % and 1.1 levels.
MOST_APART_PERCENT = 5.0
# Of 255, mean over all values of the images: apart by no more than coding changes the image, or by this.
LEAST_APART_LEVELS = 1.5


def check_coding(archive: Archive, image: ImageInput, coded: CodedImages, images: Sequence[Any]) -> None:
    """Code and decode the first of `images` (each height x width x 3, RGB, uint8) here, and compare with the order.

    Raises UnsupportedError when there is no such picture codec; ParityError when payloads differ by more than
    MOST_APART_PERCENT, or decoded pictures on average by more levels than coding changes the image by, which are
    LEAST_APART_LEVELS at least; raw ones when they differ at all.
    """
    import numpy as np

    coding, declaration = coded.coding, preprocessing.from_json(image.preprocessing)
    is_picture = coding.codec != RAW
    if is_picture:
        check_picture_codec(coding.codec)
    expected = read_decoded(archive, image, coded).astype(np.int32)
    sent = [as_sent(declaration, coding, one) for one in images[: len(expected)]]
    payloads = [encode_image(coding, one) for one in sent]
    there, here = float(sum(coded.payload_bytes)), float(sum(len(payload) for payload in payloads))
    percent = 100.0 * abs(here - there) / there
    if percent > (MOST_APART_PERCENT if is_picture else 0.0):
        means = here / len(payloads), there / len(payloads)
        said = "{} has {:.0f} bytes on average on this device and {:.0f} where the order was made, {:.1f} % apart{}"
        raise ParityError(
            said.format(_described(coded), means[0], means[1], percent, _libraries()), number=percent, fix=_fix(coded)
        )
    decoded = np.stack([decode_image(coding, payloads[number], one.shape) for number, one in enumerate(sent)])
    if decoded.shape != expected.shape:
        raise ParityError("{} has another size on this device".format(_described(coded)), fix="make the order again")
    before, levels = np.stack(sent), float(np.abs(decoded - expected).mean())
    lost = min(float(np.abs(before - one.astype(np.int32)).mean()) for one in (decoded, expected))
    if levels > (max(lost, LEAST_APART_LEVELS) if is_picture else 0.0):
        said = "{} is {:.2f} of 255 levels away on average from what it was where the order was made{}"
        raise ParityError(said.format(_described(coded), levels, _libraries()), number=levels, fix=_fix(coded))


def _described(coded: CodedImages) -> str:
    return coded.name if coded.quality is None else "{} at quality {}".format(coded.name, coded.quality)


def _fix(coded: CodedImages) -> Optional[str]:
    return "install a Pillow nearer to {}, which made the order".format(coded.pillow) if coded.pillow else None


def _libraries() -> str:
    found = picture_libraries()
    return " ({})".format(", ".join(" ".join(one) for one in sorted(found.items()))) if found else ""
