"""A device times each coding of images that the order names, once it codes them as the order's machine does."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_jetson.small_request import small_request
from PIL import Image

from engines.device_builds.requests import OrderedMeasurement, write_request
from engines.targets.lookup import find_target
from jetson.agent.measuring.stages import Stage, open_stage, stages_of
from jetson.errors import CoopexportError, ParityError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import BuildRequest, open_request
from jetson.requests.measurement import CodedImages, ImageInput, Measurement, encode_images
from jetson.runtime.preprocessing import Preprocessing, resized, to_json

ORIN = find_target("orin-nano-cpu")
DECLARATION = Preprocessing(resize=32, crop=(32, 32), scale=1 / 255)


def frames() -> np.ndarray:
    """Return 5 pictures with colours of their own, 48 x 64."""
    rows, columns = np.mgrid[:48, :64]
    noise = np.random.default_rng(0).integers(-6, 7, (5, 48, 64, 3))
    smooth = np.stack([rows * 4, columns * 3, rows + columns], axis=-1)
    return (smooth + 10 * np.arange(5)[:, None, None, None] + noise).clip(0, 255).astype(np.uint8)


def resized_by_pillow(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((42, 32), Image.Resampling.BILINEAR).crop((5, 0, 37, 32)))


def file_of(image: np.ndarray, kind: str, quality: int, **settings: Any) -> bytes:
    """Return a picture file that this module's Pillow writes by itself."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=quality, **settings)
    return buffer.getvalue()


JPEG = {"kind": "JPEG", "optimize": True}
WEBP = {"kind": "WEBP", "method": 6}


def coded(name: str, sent: list[np.ndarray], quality: int, files: dict[str, bytes], **settings: Any) -> CodedImages:
    """Return what another machine has made of images."""
    pictures = [file_of(image, quality=quality, **settings) for image in sent]
    decoded = [np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures]
    data = encode_images(np.stack(decoded))
    files[sha256_of_bytes(data)] = data
    sizes = tuple(len(picture) for picture in pictures)
    return CodedImages(name, quality, sizes, sha256_of_bytes(data), len(data), "99.0")


def order(folder: Path, *more: CodedImages, files: dict[str, bytes]) -> BuildRequest:
    """Return the order of the small network, whose images are coded in these ways."""
    images = encode_images(frames())
    files[sha256_of_bytes(images)] = images
    image = ImageInput("small", "c" * 64, to_json(DECLARATION), sha256_of_bytes(images), len(images), more)
    measured = OrderedMeasurement(Measurement(8, 2, None, None, (), (image,)), files)
    write_request(folder / "order.zip", ORIN, small_request(folder, ORIN)[-1:], measured)
    return open_request(str(folder / "order.zip"))


def ways(files: dict[str, bytes]) -> list[CodedImages]:
    """Return the images as JPEG and WebP, and as resized JPEG, of the first three."""
    whole = list(frames()[:3])
    return [
        coded("jpeg", whole, 70, files, **JPEG),
        coded("webp", whole, 50, files, **WEBP),
        coded("resized-jpeg", [resized_by_pillow(image) for image in whole], 60, files, **JPEG),
    ]


def stage(request: BuildRequest, part: str, codec: str | None) -> Stage:
    return next(one for one in stages_of(request) if (one.part, one.codec) == (part, codec))


def opened(request: BuildRequest, part: str, codec: str | None) -> Any:
    return open_stage(request, stage(request, part, codec), lambda item: pytest.fail("no engine is asked for"))


def test_every_coding_is_a_row_with_the_key_of_this_machines(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    request = order(tmp_path, *ways(files), files=files)
    assert [(one.part, one.codec, one.layer) for one in stages_of(request)] == [
        ("preprocess", None, "whole"),
        ("whole", None, "whole"),
        *((part, codec, "whole") for codec in ("raw", "jpeg", "webp") for part in ("encode", "decode")),
        ("preprocess", "resized", "whole"),
        ("encode", "resized-jpeg", "whole"),
        ("decode", "resized-jpeg", "whole"),
    ]
    assert {one.source_sha256 for one in stages_of(request) if one.item is None} == {"c" * 64}


def test_what_runs_is_the_coding_itself(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    request = order(tmp_path, *ways(files), files=files)
    image = frames()[0]
    assert opened(request, "encode", "jpeg")() == file_of(image, quality=70, **JPEG)
    assert opened(request, "encode", "webp")() == file_of(image, quality=50, **WEBP)
    with Image.open(io.BytesIO(opened(request, "encode", "resized-jpeg")())) as small:
        assert small.size == (32, 32)
        assert np.array_equal(opened(request, "decode", "resized-jpeg")(), np.asarray(small))
    left = opened(request, "preprocess", "resized")()[0].transpose(1, 2, 0)
    assert np.abs(left - resized_by_pillow(image) / 255).max() <= 1.01 / 255


def test_an_order_from_before_has_the_raw_image_alone(tmp_path: Path) -> None:
    rows = [(one.part, one.codec) for one in stages_of(order(tmp_path, files={}))]
    assert rows == [("preprocess", None), ("whole", None), ("encode", "raw"), ("decode", "raw")]


def test_without_pillow_the_rows_of_pictures_fail_and_the_others_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes] = {}
    request = order(tmp_path, *ways(files), files=files)
    monkeypatch.setitem(sys.modules, "PIL", None)
    failed = []
    for one in stages_of(request):
        if one.item is None:
            try:
                open_stage(request, one, lambda item: None)()
            except UnsupportedError as error:
                failed.append((one.part, one.codec))
                assert f"has no Pillow, which codes {str(one.codec)[-4:]}; install it: " in str(error)
    assert failed == [(part, codec) for codec in ("jpeg", "webp", "resized-jpeg") for part in ("encode", "decode")]


@pytest.mark.parametrize(
    ("name", "settings", "quality", "said"),
    [
        (
            "jpeg",
            {**JPEG, "subsampling": 0},
            70,
            r"^jpeg at quality 70 has \d+ bytes on average on this device and \d+ ",
        ),
        ("webp", WEBP, 70, r"^webp at quality 50 has .* where the order was made, [0-9.]+ % apart \(.*pillow "),
    ],
)
def test_another_way_to_code_is_named_with_the_bytes(
    tmp_path: Path, name: str, settings: dict[str, Any], quality: int, said: str
) -> None:
    files: dict[str, bytes] = {}
    other = coded(name, list(frames()[:3]), quality, files, **settings)
    request = order(tmp_path, other._replace(quality={"jpeg": 70, "webp": 50}[name]), files=files)
    for part in ("encode", "decode"):
        with pytest.raises(ParityError, match=said) as raised:
            opened(request, part, name)
        assert str(raised.value).endswith("; install a Pillow nearer to 99.0, which made the order")
        assert raised.value.number is not None
        assert raised.value.number > 5


def test_pictures_that_come_out_otherwise_are_named_with_the_levels(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    right = coded("jpeg", list(frames()[:3]), 70, files, **JPEG)
    swapped = coded("jpeg", list(frames()[:3, :, :, ::-1]), 70, files, **JPEG)
    wrong = right._replace(decoded_sha256=swapped.decoded_sha256, decoded_bytes=swapped.decoded_bytes)
    with pytest.raises(ParityError, match=r"^jpeg at quality 70 is [0-9.]+ of 255 levels away on average"):
        opened(order(tmp_path, wrong, files=files), "decode", "jpeg")


def test_a_raw_resized_image_has_to_be_the_same_bits(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}

    def request(images: np.ndarray) -> BuildRequest:
        data = encode_images(images)
        files[sha256_of_bytes(data)] = data
        sizes = (3 * 32 * 32 + 5,) * len(images)
        sent = CodedImages("resized-raw", None, sizes, sha256_of_bytes(data), len(data))
        return order(tmp_path, sent, files=files)

    small = np.stack([resized(DECLARATION, image) for image in frames()[:3]])
    assert np.array_equal(opened(request(small), "decode", "resized-raw")(), small[0])
    small[0, 0, 0, 0] ^= 1
    with pytest.raises(ParityError, match=r"resized-raw is 0\.00 of 255 levels away on average"):
        opened(request(small), "encode", "resized-raw")


def test_a_coding_that_nobody_knows_is_refused_with_the_order(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    (one, *_) = ways(files)
    for wrong in ({"name": "gif"}, {"quality": None}, {"quality": 0}, {"payload_bytes": ()}, {"name": "resized-raw"}):
        with pytest.raises(CoopexportError, match=r"order\.zip.* is malformed"):
            order(tmp_path, one._replace(**wrong), files=files)
