"""From an image to the network's input: one declaration, one function, on every machine.

The declaration is written once in the project file and travels in every bundle; the golden data
of a bundle cover it. Resizing is done here with NumPy, because the device has nothing else and
because libraries disagree about what "bilinear" means. The arithmetic gives the same bits on every
machine: what is summed is either exact or summed in a fixed order.
"""

import difflib
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from jetson.errors import InputError

LAYOUTS = ("NCHW", "NHWC")
COLOUR_ORDERS = ("RGB", "BGR", "GRAY")
INTERPOLATIONS = ("nearest", "bilinear", "bilinear-antialias")
INPUT_DTYPES = ("float32", "uint8")
_LUMA_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG and Pillow use it
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_SMALLEST_FLOAT32 = float(np.finfo(np.float32).tiny)
_WEIGHT_STEPS = 2.0**22  # per unit of weight, see _triangle_weights
_OLD_KEYS = {"deviation": "std"}  # files that were written before call it so


class Preprocessing(NamedTuple):
    """How an image (RGB, uint8, height x width x 3) becomes one input of the network.

    Steps, in this order: resize, crop, colour_order, scale (multiplied), mean (subtracted),
    std (divided by), layout, input_dtype. `resize` is None, (height, width), or one number
    for the shorter side; `crop` is None or (height, width), taken from the centre; `mean` and
    `std` have one value per channel, or one for all.
    """

    layout: str = "NCHW"
    colour_order: str = "RGB"
    resize: Optional[Union[int, Tuple[int, int]]] = None
    interpolation: str = "bilinear-antialias"
    crop: Optional[Tuple[int, int]] = None
    scale: float = 1.0
    mean: Tuple[float, ...] = (0.0,)
    std: Tuple[float, ...] = (1.0,)
    input_dtype: str = "float32"


def check(preprocessing: Preprocessing) -> None:
    """Raise InputError, naming the field, when the declaration makes no sense."""
    choices = (
        ("layout", LAYOUTS),
        ("colour_order", COLOUR_ORDERS),
        ("interpolation", INTERPOLATIONS),
        ("input_dtype", INPUT_DTYPES),
    )
    for field, allowed in choices:
        if getattr(preprocessing, field) not in allowed:
            raise _wrong(preprocessing, field, "one of {}".format(", ".join(allowed)))
    if not (preprocessing.resize is None or _is_pixels(preprocessing.resize) or _is_size(preprocessing.resize)):
        raise _wrong(preprocessing, "resize", "[height, width], or one number for the shorter side, in pixels")
    if not (preprocessing.crop is None or _is_size(preprocessing.crop)):
        raise _wrong(preprocessing, "crop", "[height, width] in pixels")
    if not _is_finite(preprocessing.scale) or not _is_divisor(preprocessing.scale):
        raise _wrong(preprocessing, "scale", "one number other than 0, such as 1/255 = 0.00392156862745098")
    channels = 1 if preprocessing.colour_order == "GRAY" else 3
    for field in ("mean", "std"):
        values = getattr(preprocessing, field)
        if not isinstance(values, tuple) or not all(_is_finite(value) for value in values):
            raise _wrong(preprocessing, field, "a list of finite numbers, one per channel")
        if len(values) not in (1, channels):
            raise InputError(
                "preprocessing.{} has {} values for {} channels ({})".format(
                    field, len(values), channels, preprocessing.colour_order
                ),
                fix="give one per channel, or one for all",
            )
    if not all(_is_divisor(value) for value in preprocessing.std):
        raise InputError(
            "preprocessing.std holds 0 (or less than a float32 can hold): inputs are divided by it",
            fix="leave it out, or use 1 for that channel",
        )
    normalises = preprocessing.scale != 1 or set(preprocessing.mean) != {0.0}
    if preprocessing.input_dtype == "uint8" and (normalises or set(preprocessing.std) != {1.0}):
        raise InputError(
            "preprocessing.input_dtype is uint8, so scale, mean and std must be left out: "
            "the network normalises by itself"
        )


def to_json(preprocessing: Preprocessing) -> Dict[str, Any]:
    """Return the declaration as a JSON object."""
    return {
        field: list(value) if isinstance(value, tuple) else value for field, value in preprocessing._asdict().items()
    }


def from_json(content: Dict[str, Any]) -> Preprocessing:
    """Return the declaration read from a JSON object; raises CoopexportError naming a bad field.

    `deviation`, as files written before call `std`, is read as well; both at once are refused. Unlike elsewhere, fields
    that are not known are refused: leaving out a step changes the result.
    """
    content = _with_new_keys(content)
    unknown = sorted(set(content) - set(Preprocessing._fields))
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], Preprocessing._fields, n=1)
        advice = "did you mean {}?" if nearest else "known are {}"
        raise InputError(
            "preprocessing.{} is not a known key".format(unknown[0]),
            fix=advice.format(", ".join(nearest or Preprocessing._fields)),
        )
    values: Dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in content.items()
    }
    preprocessing = Preprocessing(**values)
    check(preprocessing)
    return preprocessing


def _with_new_keys(content: Dict[str, Any]) -> Dict[str, Any]:
    """Return the declaration with today's names of its fields; raises CoopexportError when a field is there twice."""
    for old, new in _OLD_KEYS.items():
        if old in content and new in content:
            raise InputError(
                "preprocessing has {} and {}, which is its old name".format(new, old), fix="leave out {}".format(old)
            )
    return {_OLD_KEYS.get(field, field): value for field, value in content.items()}


def apply(preprocessing: Preprocessing, images: Union[np.ndarray, Sequence[np.ndarray]]) -> np.ndarray:
    """Return the network's input for `images`.

    `images`: RGB uint8, each height x width x 3; sizes may differ where they are resized or
    cropped. Returns N x C x H x W or N x H x W x C, of `input_dtype`, in memory of its own. Raises
    CoopexportError when an image is not of that form, too small to crop, or when the results differ
    in size.
    """
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise InputError("images have shape {}; expected count x height x width x 3 (RGB, uint8)".format(images.shape))
    fitted = [_fit(preprocessing, image, index) for index, image in enumerate(images)]
    if not fitted:
        raise InputError("there are no images to preprocess", fix="pass at least one")
    sizes = sorted({image.shape[:2] for image in fitted})
    if len(sizes) > 1:
        raise InputError(
            "images come out of preprocessing in several sizes ({})".format(
                ", ".join("{}x{}".format(*size) for size in sizes[:3])
            ),
            fix="declare preprocessing.resize or preprocessing.crop",
        )
    batch = _colours(preprocessing.colour_order, np.stack(fitted))
    per_channel: Tuple[int, ...] = (-1,)
    if preprocessing.layout == "NCHW":
        batch = batch.transpose(0, 3, 1, 2)
        per_channel = (-1, 1, 1)
    if preprocessing.input_dtype == "uint8":
        return np.ascontiguousarray(batch if batch.dtype == np.uint8 else np.rint(batch).astype(np.uint8))
    inputs = batch.astype(np.float32, order="C")
    inputs *= np.float32(preprocessing.scale)
    inputs -= np.asarray(preprocessing.mean, dtype=np.float32).reshape(per_channel)
    inputs /= np.asarray(preprocessing.std, dtype=np.float32).reshape(per_channel)
    return inputs


def resizes(preprocessing: Preprocessing) -> bool:
    """Tell whether images are resized or cropped, so that they may be sent smaller than they are."""
    return preprocessing.resize is not None or preprocessing.crop is not None


def network_inputs(preprocessing: Preprocessing, images: Union[np.ndarray, Sequence[np.ndarray]]) -> np.ndarray:
    """Return `images` as exported graphs take them, N x ..., always float32; errors as of `apply`."""
    return apply(preprocessing, images).astype(np.float32, copy=False)


def resized(preprocessing: Preprocessing, image: np.ndarray) -> np.ndarray:
    """Return one image (height x width x 3, RGB, uint8) resized and cropped as declared, uint8.

    `apply(after_resizing(preprocessing), ...)` of it gives the same bits as `apply(preprocessing, ...)` of the image.
    Raises CoopexportError as `apply` does.
    """
    return _fit(preprocessing, image, 0)


def after_resizing(preprocessing: Preprocessing) -> Preprocessing:
    """Return what is left to do with an image that was resized and cropped already."""
    return preprocessing._replace(resize=None, crop=None)


def resize(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """Return `image` (height x width x channels, uint8) resampled to `height` x `width`, as uint8.

    Pixel centres lie at half coordinates (as in Pillow, OpenCV and torch with align_corners=False).
    `bilinear-antialias` widens the triangle filter when shrinking, as Pillow does. A half is rounded up.
    """
    if interpolation == "nearest":
        rows: np.ndarray = image[_nearest(image.shape[0], height)]
        return rows[:, _nearest(image.shape[1], width)]
    antialias = interpolation == "bilinear-antialias"
    resampled = _resample(_resample(image, 0, height, antialias), 1, width, antialias)
    return np.floor(resampled + 0.5).astype(np.uint8)


def _wrong(preprocessing: Preprocessing, field: str, right: str) -> InputError:
    value = getattr(preprocessing, field)
    shown = list(value) if isinstance(value, tuple) else value
    return InputError("preprocessing.{} is {!r}".format(field, shown), fix="use {}".format(right))


def _is_pixels(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_pixels(side) for side in value)


def _is_finite(value: Any) -> bool:
    """Tell whether `value` is a number that a float32 can hold; NaN compares as false."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and -_MAX_FLOAT32 <= value <= _MAX_FLOAT32


def _is_divisor(value: float) -> bool:
    """Tell whether `value` is still not 0 as a float32."""
    return abs(value) >= _SMALLEST_FLOAT32


def _fit(preprocessing: Preprocessing, image: np.ndarray, index: int) -> np.ndarray:
    """Return one image resized and cropped, still RGB and uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise InputError(
            "image {} is {} of shape {}; expected uint8, height x width x 3 (RGB)".format(
                index, image.dtype, image.shape
            )
        )
    if preprocessing.resize is not None:
        height, width = _target_size(preprocessing.resize, image.shape[0], image.shape[1])
        image = resize(image, height, width, preprocessing.interpolation)
    if preprocessing.crop is not None:
        height, width = preprocessing.crop
        # Half a pixel towards the top left where the rest is odd.
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        if top < 0 or left < 0:
            raise InputError(
                "image {} is {}x{}, smaller than preprocessing.crop {}x{}".format(
                    index, image.shape[0], image.shape[1], height, width
                ),
                fix="declare a larger preprocessing.resize",
            )
        image = image[top : top + height, left : left + width]
    return image


def _target_size(wanted: Union[int, Tuple[int, int]], height: int, width: int) -> Tuple[int, int]:
    """Return (height, width) after resizing; the longer side is rounded down, as torchvision does."""
    if not isinstance(wanted, int):
        return wanted
    if height <= width:
        return wanted, wanted * width // height
    return wanted * height // width, wanted


def _colours(order: str, batch: np.ndarray) -> np.ndarray:
    """Return `batch` (N x H x W x 3, RGB, uint8) in another order, or as N x H x W x 1 float32."""
    if order == "BGR":
        return batch[..., ::-1]
    if order == "GRAY":
        # Not a matrix product: its order of summation differs from machine to machine.
        red, green, blue = (
            batch[..., channel : channel + 1].astype(np.float32) * np.float32(weight)
            for channel, weight in enumerate(_LUMA_OF_RGB)
        )
        grey: np.ndarray = red + green + blue
        return grey
    return batch


def _nearest(before: int, after: int) -> np.ndarray:
    """Return, for each of `after` outputs, the input pixel that its centre lies in (int64)."""
    return (2 * np.arange(after, dtype=np.int64) + 1) * before // (2 * after)


def _resample(pixels: np.ndarray, axis: int, after: int, antialias: bool) -> np.ndarray:
    """Return `pixels` (height x width x channels) with `after` entries along `axis`, as float64.

    One pass per tap of the filter instead of one matrix product: nearly all of that matrix is zero.
    """
    sources, weights = _triangle_weights(pixels.shape[axis], after, antialias)
    along_axis = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    shape = pixels.shape[:axis] + (after,) + pixels.shape[axis + 1 :]
    mixed = np.zeros(shape, dtype=np.float64)
    for tap in range(weights.shape[1]):
        mixed += np.take(pixels, sources[:, tap], axis=axis) * weights[:, tap].reshape(along_axis)
    return mixed


def _triangle_weights(before: int, after: int, antialias: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Return what each output is mixed from: input pixels (int64) and weights (float64), after x taps.

    The weights of an output sum to 1, up to rounding each to 2^-22 (as Pillow does). So rounded, sums
    of weighted 8-bit pixels over both axes take at most 52 bits and are exact in float64: no order of
    summation and no processor can change a result.
    """
    support = max(before / after, 1.0) if antialias else 1.0  # half the width of the triangle
    centres = (np.arange(after) + 0.5) * before / after
    taps = int(np.ceil(2 * support)) + 1
    pixels = np.floor(centres - support).astype(np.int64)[:, np.newaxis] + np.arange(taps)
    weights = np.maximum(0.0, 1.0 - np.abs(pixels + 0.5 - centres[:, np.newaxis]) / support)
    weights[(pixels < 0) | (pixels >= before)] = 0.0  # so that border pixels take all of the weight
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(pixels, 0, before - 1), np.rint(weights * _WEIGHT_STEPS) / _WEIGHT_STEPS
