"""An image as a JPEG or WebP file: the same settings on every machine. Pillow is imported when it is needed."""

import io
import sys
from typing import Any, Dict, Tuple

from jetson.errors import UnsupportedError, one_line

PICTURE_CODECS = ("jpeg", "webp")
# JPEG: Huffman tables of the image's own, chroma at half the resolution. WebP: lossy, its slowest and smallest method.
_SETTINGS: Dict[str, Dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "optimize": True, "subsampling": 2},
    "webp": {"format": "WEBP", "method": 6},
}
_FEATURES = {"jpeg": "jpg", "webp": "webp"}  # what Pillow calls them
# Earlier ones code still images by another method than they are asked for.
_OLDEST_FOR_WEBP = (7, 2)
_LIBRARIES = (("libjpeg", "jpg"), ("libjpeg_turbo", "libjpeg_turbo"), ("libwebp", "webp"))


def encode_picture(codec: str, image: Any, quality: int) -> bytes:
    """Return one image (height x width x 3, RGB, uint8) as a picture file, quality 1 to 100; the file is the payload.

    Raises what Pillow raises where it lacks the codec: `check_picture_codec` says it in a sentence.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, quality=quality, **_SETTINGS[codec])
    return buffer.getvalue()


def decode_picture(payload: bytes) -> Any:
    """Return the image (height x width x 3, RGB, uint8) of a JPEG or WebP file."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def check_picture_codec(codec: str) -> None:
    """Raise UnsupportedError when this Python's Pillow is missing, broken, or cannot code as `_SETTINGS` say."""
    pip = "{} -m pip install".format(sys.executable)
    try:
        import PIL
        from PIL import Image, features  # noqa: F401  the package alone is there where its library is broken
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "PIL":
            raise UnsupportedError(
                "{} has no Pillow, which codes {}".format(sys.executable, codec),
                fix="install it: {} pillow".format(pip),
            ) from None
        raise UnsupportedError(
            "Pillow cannot be imported ({})".format(one_line(error)[:200]),
            fix="install it anew: {} --force-reinstall pillow".format(pip),
        ) from None
    named = "Pillow {}".format(PIL.__version__)
    if not features.check(_FEATURES[codec]):
        raise UnsupportedError(
            "{} was built without {}".format(named, codec),
            fix="install one with it: {} --force-reinstall --only-binary=:all: pillow".format(pip),
        )
    if codec == "webp" and _numbers(PIL.__version__) < _OLDEST_FOR_WEBP:
        raise UnsupportedError(
            "{} codes WebP by another method than it is asked for".format(named),
            fix='install 7.2 or newer: {} --upgrade "pillow>=7.2"'.format(pip),
        )


def picture_libraries() -> Dict[str, str]:
    """Return the versions of Pillow, libjpeg and libwebp as far as Pillow tells them; none without Pillow."""
    try:
        import PIL
        from PIL import Image, features
    except ImportError:
        return {}
    found = {"pillow": str(PIL.__version__)}
    if not hasattr(features, "version"):  # older ones tell of JPEG alone
        core = Image.core  # type: ignore[attr-defined]
        return dict(found, libjpeg=str(getattr(core, "jpeglib_version", "unknown")))
    for name, feature in _LIBRARIES:
        version = features.version(feature)
        if version:
            found[name] = str(version)
    return found


def _numbers(version: str) -> Tuple[int, ...]:
    """Return the leading numbers of a version: "7.2.0" as (7, 2, 0)."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
