"""One declaration gives the inputs that Pillow, torch and a plain formula give."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import (
    COLOUR_ORDERS,
    INPUT_DTYPES,
    INTERPOLATIONS,
    LAYOUTS,
    Preprocessing,
    apply,
    check,
    from_json,
    resize,
    to_json,
)

sides = st.integers(1, 70)
seeds = st.integers(0, 1000)
SIZES = [  # (height, width) before and after
    ((1, 1), (1, 1)),
    ((1, 1), (7, 5)),
    ((9, 13), (1, 1)),
    ((32, 32), (224, 224)),
    ((224, 224), (32, 32)),
    ((60, 90), (61, 89)),
    ((50, 3), (3, 50)),
    ((480, 640), (224, 224)),
    ((37, 41), (37, 23)),
]


def noise(height, width, seed=0):
    """Return an image of random pixels: the hardest there is for a resampling filter."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def levels_apart(one, other):
    """Return the largest difference between two images."""
    return np.abs(one.astype(np.float64) - np.asarray(other, dtype=np.float64)).max()


def by_torch(image, height, width, **options):
    """Return the image resized by torch, in float64 and not rounded."""
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[np.newaxis]
    resized = torch.nn.functional.interpolate(planes, size=(height, width), **options)
    return resized[0].permute(1, 2, 0).numpy()


# Resizing.


@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=150)
def test_antialiased_bilinear_is_pillows(before, after, seed):
    image = noise(*before, seed)
    expected = Image.fromarray(image).resize((after[1], after[0]), Image.Resampling.BILINEAR)
    assert levels_apart(resize(image, *after, "bilinear-antialias"), expected) <= 1


@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=150)
def test_both_bilinear_filters_are_torchs_before_rounding(before, after, seed):
    image = noise(*before, seed)
    for interpolation, antialias in (("bilinear", False), ("bilinear-antialias", True)):
        if antialias and after[1] == 1:
            continue  # torch 2.13 then leaves out the filter along the height
        expected = by_torch(image, *after, mode="bilinear", align_corners=False, antialias=antialias)
        # Half a level is the rounding; the rest is torch's own: it takes its scale in float32.
        assert levels_apart(resize(image, *after, interpolation), expected) < 0.51


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_usual_sizes_against_pillow_and_torch(before, after):
    image = noise(*before)
    expected = Image.fromarray(image).resize((after[1], after[0]), Image.Resampling.BILINEAR)
    assert levels_apart(resize(image, *after, "bilinear-antialias"), expected) <= 1
    expected = by_torch(image, *after, mode="bilinear", align_corners=False, antialias=False)
    assert levels_apart(resize(image, *after, "bilinear"), expected) < 0.51
    expected = by_torch(image, *after, mode="nearest-exact")
    np.testing.assert_array_equal(resize(image, *after, "nearest"), expected)


@given(before=sides, after=sides)
@settings(deadline=None, max_examples=150)
def test_nearest_takes_the_pixel_that_the_centre_lies_in(before, after):
    image = np.repeat(np.arange(before, dtype=np.uint8)[:, np.newaxis, np.newaxis], 3, axis=2)
    found = resize(image, after, 1, "nearest")[:, 0, 0]
    expected = by_torch(image, after, 1, mode="nearest-exact")[:, 0, 0]
    for output, (ours, theirs) in enumerate(zip(found.tolist(), expected.tolist(), strict=True)):
        centre = (2 * output + 1) * before  # in units of 1 / (2 * after) pixels
        assert ours * 2 * after <= centre < (ours + 1) * 2 * after
        # On the very border between two pixels torch's float32 scale may fall on the other side.
        assert ours == theirs or centre % (2 * after) == 0


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_same_size_changes_nothing(interpolation):
    image = noise(33, 57)
    np.testing.assert_array_equal(resize(image, 33, 57, interpolation), image)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_one_colour_stays_that_colour(interpolation, level):
    for before, after in (((3, 4000), (5, 3)), ((7, 9), (300, 2)), ((1, 1), (9, 9))):
        resized = resize(np.full((*before, 3), level, dtype=np.uint8), *after, interpolation)
        assert resized.shape == (*after, 3)
        assert resized.dtype == np.uint8
        assert (resized == level).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resizing_commutes_with_mirroring_and_transposing(interpolation):
    image = noise(45, 71)
    resized = resize(image, 28, 33, interpolation)  # no output centre on a border between two pixels
    np.testing.assert_array_equal(resize(image[::-1], 28, 33, interpolation), resized[::-1])
    np.testing.assert_array_equal(resize(image[:, ::-1], 28, 33, interpolation), resized[:, ::-1])
    np.testing.assert_array_equal(resize(image.swapaxes(0, 1), 33, 28, interpolation), resized.swapaxes(0, 1))


def integer_weights(before, after, antialias):
    """Return the triangle filter as an after x before matrix of whole multiples of 2^-22."""
    support = max(before / after, 1.0) if antialias else 1.0
    matrix = np.zeros((after, before), dtype=np.int64)
    for output in range(after):
        centre = (output + 0.5) * before / after
        weights = np.maximum(0, 1 - np.abs(np.arange(before) + 0.5 - centre) / support)
        matrix[output] = np.rint(weights / weights.sum() * 2**22)
    return matrix


@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=100)
def test_resizing_is_exact_so_that_all_machines_agree(before, after, seed):
    """The same in integers: no rounding happens before the last one, so no order of summation matters."""
    image = noise(*before, seed)
    for interpolation in ("bilinear", "bilinear-antialias"):
        rows = integer_weights(before[0], after[0], interpolation == "bilinear-antialias")
        columns = integer_weights(before[1], after[1], interpolation == "bilinear-antialias")
        exact = np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(np.int64), optimize=True)
        np.testing.assert_array_equal(resize(image, *after, interpolation), (exact + 2**43) >> 44)


def test_golden_inputs():
    """Bundles hold golden inputs: what this function makes of an image must not change unnoticed."""
    image = (np.arange(61 * 83 * 3, dtype=np.int64) ** 2 * 7919 // 64 % 256).astype(np.uint8).reshape(61, 83, 3)
    digests = {}
    for interpolation in INTERPOLATIONS:
        digest = hashlib.sha256()
        for size in ((224, 224), (32, 20), (61, 40), 50, 99):
            for colour_order in COLOUR_ORDERS:
                declaration = Preprocessing(
                    resize=size,
                    interpolation=interpolation,
                    colour_order=colour_order,
                    crop=(20, 18),
                    scale=1 / 255,
                    mean=(0.45,),
                    std=(0.225,),
                )
                digest.update(apply(declaration, [image]).tobytes())
        digests[interpolation] = digest.hexdigest()[:16]
    assert digests == {
        "nearest": "b667a2eadf9d409b",
        "bilinear": "f70ddf066ecd5824",
        "bilinear-antialias": "760c99b9818cfa61",
    }


@pytest.mark.parametrize(
    ("size", "shorter", "expected"),
    [
        ((480, 640), 256, (256, 341)),
        ((640, 480), 256, (341, 256)),
        ((375, 500), 256, (256, 341)),
        ((500, 500), 256, (256, 256)),
        ((1, 1000), 3, (3, 3000)),
        ((7, 5), 224, (313, 224)),
        ((300, 449), 100, (100, 149)),
    ],
)
def test_one_number_is_the_shorter_side_and_the_longer_one_follows(size, shorter, expected):
    image = np.zeros((*size, 3), dtype=np.uint8)
    assert apply(Preprocessing(resize=shorter, layout="NHWC"), [image]).shape == (1, *expected, 3)


# Cropping.


@pytest.mark.parametrize(
    ("size", "crop", "top", "left"),
    [
        ((10, 10), (10, 10), 0, 0),
        ((10, 12), (4, 6), 3, 3),
        ((11, 12), (4, 5), 3, 3),  # an odd rest: half a pixel towards the top left
        ((5, 9), (5, 1), 0, 4),
    ],
)
def test_the_crop_is_the_centre(size, crop, top, left):
    image = noise(*size)
    cropped = apply(Preprocessing(crop=crop, layout="NHWC", input_dtype="uint8"), [image])[0]
    np.testing.assert_array_equal(cropped, image[top : top + crop[0], left : left + crop[1]])


def test_the_crop_comes_after_the_resize():
    image = noise(40, 60)
    declaration = Preprocessing(resize=20, crop=(16, 16), layout="NHWC", input_dtype="uint8")
    resized = resize(image, 20, 30, "bilinear-antialias")
    np.testing.assert_array_equal(apply(declaration, [image])[0], resized[2:18, 7:23])


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(CoopexportError, match=r"image 1 is 10x30, smaller than preprocessing\.crop 16x16"):
        apply(Preprocessing(crop=(16, 16)), [noise(20, 20), noise(10, 30)])


# Colours, numbers, layout.


def test_the_default_is_the_image_as_float32():
    images = np.stack([noise(5, 7, seed) for seed in range(3)])
    inputs = apply(Preprocessing(), images)
    assert inputs.dtype == np.float32
    assert inputs.shape == (3, 3, 5, 7)
    np.testing.assert_array_equal(inputs, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("colour_order", COLOUR_ORDERS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_normalisation_against_a_plain_formula(layout, colour_order, per_channel):
    images = [noise(6, 4, seed) for seed in range(2)]
    channels = 1 if colour_order == "GRAY" else 3
    mean = (0.485, 0.456, 0.406)[: channels if per_channel else 1]
    std = (0.229, 0.224, 0.225)[: channels if per_channel else 1]
    declaration = Preprocessing(layout=layout, colour_order=colour_order, scale=1 / 255, mean=mean, std=std)
    inputs = apply(declaration, images)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    for n, image in enumerate(images):
        for y, x, channel in np.ndindex(6, 4, channels):
            red, green, blue = image[y, x].tolist()
            value = {
                "RGB": (red, green, blue),
                "BGR": (blue, green, red),
                "GRAY": (0.299 * red + 0.587 * green + 0.114 * blue,),
            }[colour_order][channel]
            expected = (value / 255 - mean[channel % len(mean)]) / std[channel % len(std)]
            found = inputs[n, channel, y, x] if layout == "NCHW" else inputs[n, y, x, channel]
            assert found == pytest.approx(expected, abs=3e-6)


def test_grey_is_pillows_within_a_level_and_exact_at_both_ends():
    image = noise(64, 64)
    image[0, 0], image[0, 1] = 0, 255
    grey = apply(Preprocessing(colour_order="GRAY", input_dtype="uint8", layout="NHWC"), [image])[0, :, :, 0]
    assert levels_apart(grey, Image.fromarray(image).convert("L")) <= 1
    assert grey[0, :2].tolist() == [0, 255]
    as_float = apply(Preprocessing(colour_order="GRAY"), [image])[0, 0]
    assert levels_apart(as_float, Image.fromarray(image).convert("L")) <= 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("colour_order", COLOUR_ORDERS)
@pytest.mark.parametrize("input_dtype", INPUT_DTYPES)
def test_shapes_dtypes_and_memory(layout, colour_order, input_dtype):
    declaration = Preprocessing(layout=layout, colour_order=colour_order, input_dtype=input_dtype)
    images = noise(8, 5)[np.newaxis]
    before = images.copy()
    inputs = apply(declaration, images)
    channels = 1 if colour_order == "GRAY" else 3
    assert inputs.shape == ((1, channels, 8, 5) if layout == "NCHW" else (1, 8, 5, channels))
    assert inputs.dtype == input_dtype
    assert inputs.flags.c_contiguous
    assert not np.shares_memory(inputs, images)
    inputs[...] = 0
    np.testing.assert_array_equal(images, before)


def test_uint8_inputs_are_the_pixels_themselves():
    image = noise(9, 6)
    bgr = apply(Preprocessing(input_dtype="uint8", colour_order="BGR"), [image])
    np.testing.assert_array_equal(bgr[0], image.transpose(2, 0, 1)[::-1])


def test_images_may_differ_in_size_where_they_come_out_alike():
    images = [noise(40, 60), noise(31, 31)]
    assert apply(Preprocessing(resize=(16, 20)), images).shape == (2, 3, 16, 20)
    assert apply(Preprocessing(crop=(16, 20)), images).shape == (2, 3, 16, 20)
    with pytest.raises(CoopexportError, match=r"several sizes \(31x31, 40x60\); declare preprocessing\.resize"):
        apply(Preprocessing(), images)
    with pytest.raises(CoopexportError, match=r"several sizes \(16x16, 16x24\)"):
        apply(Preprocessing(resize=16), images)


@given(seed=seeds, count=st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_an_image_is_treated_alike_alone_and_in_a_batch(seed, count):
    declaration = Preprocessing(resize=20, crop=(18, 18), scale=1 / 255, mean=(0.4,), std=(0.2,))
    images = [noise(30 + n, 40, seed + n) for n in range(count)]
    alone = np.concatenate([apply(declaration, [image]) for image in images])
    np.testing.assert_array_equal(apply(declaration, images), alone)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no images"),
        (np.zeros((4, 4, 3), np.uint8), r"images have shape \(4, 4, 3\)"),
        (np.zeros((1, 3, 4, 4), np.uint8), r"image 0 is uint8 of shape \(3, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.float32), "image 0 is float32"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)], r"image 1 is uint8 of shape \(4, 4\)"),
        ([np.zeros((4, 4, 4), np.uint8)], r"expected uint8, height x width x 3 \(RGB\)"),
        ([np.zeros((0, 4, 3), np.uint8)], r"image 0 is uint8 of shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    for declaration in (Preprocessing(), Preprocessing(resize=8), Preprocessing(crop=(2, 2))):
        with pytest.raises(CoopexportError, match=message):
            apply(declaration, images)


# The declaration.


numbers = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)
nonzero = numbers.filter(bool)
pixels = st.integers(1, 5000)


@st.composite
def declarations(draw):
    colour_order = draw(st.sampled_from(COLOUR_ORDERS))
    channels = st.sampled_from([1] if colour_order == "GRAY" else [1, 3])
    as_float = draw(st.booleans())
    fields = {
        "layout": draw(st.sampled_from(LAYOUTS)),
        "colour_order": colour_order,
        "resize": draw(st.none() | pixels | st.tuples(pixels, pixels)),
        "interpolation": draw(st.sampled_from(INTERPOLATIONS)),
        "crop": draw(st.none() | st.tuples(pixels, pixels)),
        "input_dtype": "float32" if as_float else "uint8",
    }
    if as_float:
        fields["scale"] = draw(nonzero)
        fields["mean"] = tuple(draw(numbers) for _ in range(draw(channels)))
        fields["std"] = tuple(draw(nonzero) for _ in range(draw(channels)))
    return Preprocessing(**fields)


@given(declaration=declarations())
@settings(deadline=None, max_examples=100)
def test_json_round_trip(declaration):
    check(declaration)
    assert from_json(json.loads(json.dumps(to_json(declaration)))) == declaration


def test_what_is_left_out_is_the_default():
    assert from_json({}) == Preprocessing()
    assert from_json({"mean": [0.5, 0.5, 0.5]}) == Preprocessing(mean=(0.5, 0.5, 0.5))
    assert from_json({"resize": [32, 48], "crop": [30, 40]}) == Preprocessing(resize=(32, 48), crop=(30, 40))


def test_whole_numbers_will_do_where_fractions_are_meant():
    declaration = from_json({"scale": 2, "mean": [1, 2, 3], "std": [1, 1, 4]})
    np.testing.assert_allclose(apply(declaration, [np.full((1, 1, 3), 9, np.uint8)]).ravel(), [17, 16, 3.75])


BAD = [
    ("layout", "NCWH"),
    ("layout", None),
    ("layout", ["NCHW"]),
    ("colour_order", "rgb"),
    ("interpolation", "bicubic"),
    ("interpolation", 1),
    ("input_dtype", "float16"),
    ("resize", 0),
    ("resize", -224),
    ("resize", 224.0),
    ("resize", "224"),
    ("resize", True),
    ("resize", [224]),
    ("resize", [224, 0]),
    ("resize", [224, 224, 3]),
    ("resize", [224, None]),
    ("resize", {"height": 224}),
    ("crop", 224),
    ("crop", [0, 224]),
    ("crop", [224, 224.5]),
    ("crop", "centre"),
    ("scale", 0),
    ("scale", None),
    ("scale", "1/255"),
    ("scale", [1.0]),
    ("scale", True),
    ("scale", math.nan),
    ("scale", math.inf),
    ("scale", 1e39),
    ("scale", 1e-46),
    ("scale", 10**400),
    ("mean", 0.5),
    ("mean", None),
    ("mean", []),
    ("mean", [0.5, 0.5]),
    ("mean", [0.5, 0.5, "0.5"]),
    ("mean", [0.5, 0.5, None]),
    ("mean", [math.nan]),
    ("mean", [[0.5, 0.5, 0.5]]),
    ("mean", [-(10**400)]),
    ("std", 0.5),
    ("std", []),
    ("std", [1.0, 1.0, 0.0]),
    ("std", [0]),
    ("std", [1e-60]),
    ("std", [math.inf]),
    ("std", [1.0, 1.0, 1.0, 1.0]),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_field_is_refused_with_a_message_that_names_it(field, value):
    with pytest.raises(CoopexportError, match=rf"^preprocessing\.{field} ") as caught:
        from_json({field: value})
    assert "\n" not in str(caught.value)
    if not isinstance(value, list):
        with pytest.raises(CoopexportError, match=rf"^preprocessing\.{field} "):
            check(Preprocessing(**{field: value}))


def test_grey_has_one_mean_and_one_std():
    with pytest.raises(CoopexportError, match=r"mean has 3 values for 1 channels \(GRAY\)"):
        from_json({"colour_order": "GRAY", "mean": [0.4, 0.4, 0.4]})


@pytest.mark.parametrize(("field", "value"), [("scale", 1 / 255), ("mean", [0.1]), ("mean", [0, 0, 0.1]), ("std", [2])])
def test_uint8_networks_normalise_by_themselves(field, value):
    with pytest.raises(CoopexportError, match="input_dtype is uint8, so scale, mean and std must be left out"):
        from_json({"input_dtype": "uint8", field: value})
    from_json({"input_dtype": "uint8", "scale": 1.0, "mean": [0, 0, 0], "std": [1.0]})


def test_an_unknown_field_is_refused_with_the_nearest_known_one():
    with pytest.raises(CoopexportError, match=r"preprocessing\.color_order is not a known key; did you mean colour_"):
        from_json({"color_order": "RGB"})
    with pytest.raises(CoopexportError, match=r"preprocessing\.zzz is not a known key; known are layout, colour_"):
        from_json({"zzz": 1})
