"""What an order asks to measure comes out as it went in; what is malformed is refused by the order's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.codecs.entropy_tables import fit_symbol_model
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import RequestTarget, open_request, write_request
from jetson.requests.measurement import (
    CodedImages,
    CodedTensor,
    CutCoding,
    ImageInput,
    Measurement,
    encode_images,
    read_codec,
    read_decoded,
    read_images,
)
from jetson.wire.symbol_model import model_to_bytes

IMAGES = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
FILE = encode_images(IMAGES)
TABLES = model_to_bytes(fit_symbol_model(np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4) % 16, 4, False))
TENSOR = CodedTensor("f", (1, 4, 4), "affine", 4, "none", "rans", sha256_of_bytes(TABLES), len(TABLES))
CODED = CodedImages("jpeg", 70, (12, 13), sha256_of_bytes(FILE), len(FILE), "11.0")
RESIZED = CodedImages("resized-raw", None, (41, 41), sha256_of_bytes(FILE), len(FILE))
MEASUREMENT = Measurement(
    30,
    10,
    "25W",
    None,
    (CutCoding("v", "conv1", "rans", "v/conv1.head", "v/conv1.tail", "a" * 64, "b" * 64, "a b", (TENSOR,)),),
    (ImageInput("v", "c" * 64, {"layout": "NCHW"}, sha256_of_bytes(FILE), len(FILE), (CODED, RESIZED)),),
)


def order(folder: Path, measurement: Measurement) -> Path:
    files = [(sha256_of_bytes(data), data) for data in (FILE, TABLES)]
    write_request(str(folder / "order.json"), RequestTarget("orin", backend="onnxruntime"), "1", [], files, measurement)
    return folder / "order.json"


def test_it_comes_out_as_it_went_in(tmp_path: Path) -> None:
    whole = MEASUREMENT._replace(cuts=())
    request = open_request(str(order(tmp_path, whole)))
    assert (request.measurement, request.target.backend) == (whole, "onnxruntime")
    assert np.array_equal(read_images(request.archive, whole.images[0]), IMAGES)
    assert np.array_equal(read_decoded(request.archive, whole.images[0], CODED), IMAGES)
    assert [coding.name for coding in whole.images[0].codings] == ["raw", "jpeg", "resized-raw"]
    codec = read_codec(request.archive, MEASUREMENT.cuts[0])
    symbols = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert np.array_equal(codec.decode(codec.encode([symbols]))[0], symbols)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0},
        {"energy": "yes"},
        {"energy_seconds": 0},
        {"energy_seconds": "long"},
        {"warm_up": "10"},
        {"reference": "nowhere"},
        {"cuts": [{"variant": "v"}]},
        {"images": None},
        {"cuts": [json.loads(json.dumps(MEASUREMENT.cuts[0]._asdict()))]},
    ],
)
def test_what_is_malformed_is_refused_by_the_orders_name(tmp_path: Path, change: dict[str, Any]) -> None:
    path = order(tmp_path, MEASUREMENT._replace(cuts=()))
    content = json.loads(path.read_text())
    content["measurement"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match=r"order\.json is malformed"):
        open_request(str(path))


def test_damaged_images_are_refused_by_name(tmp_path: Path) -> None:
    request = open_request(str(order(tmp_path, MEASUREMENT._replace(cuts=()))))
    tables = MEASUREMENT.images[0]._replace(images_sha256=TENSOR.tables_sha256, images_bytes=len(TABLES))
    with pytest.raises(CoopexportError, match=r"order\.json: the images of v are unusable"):
        read_images(request.archive, tables)
