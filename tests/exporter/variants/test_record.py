"""A variant's record comes back as it was written, holds one bit for each image, and lists variants in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.bundles.bundle import Metric
from exporter.variants.record import (
    VARIANT_FILE,
    VariantRecord,
    in_order,
    layer_position,
    pack_right,
    read_variant_record,
    write_variant_record,
)
from jetson.errors import CoopexportError

WIDTHS = {"features.conv1_1": 4, "features.conv2_1": 8, "features.conv10_1": 8, "classifier": 10}


def record_of(variant: str = "conv2_1-3", step: str = "step2", **fields: Any) -> VariantRecord:
    plain: dict[str, Any] = {
        "variant": variant,
        "step": step,
        "made_from": {"graph": "a" * 64},
        "widths": WIDTHS,
        "macs": 1000,
        "parameters": 100,
        "metric": Metric(name="top1", value=0.75, reference=0.8, samples=20),
    }
    return VariantRecord(**{**plain, **fields})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = record_of(
        parent="step1",
        series="narrow",
        method={"layer": "conv2_1", "width": 3},
        cuts=("conv2_1",),
        training={"images_since_step1": 640},
        interval=(0.5, 0.9),
        right="0ff0f0",
        parity=({"check": "export", "error": 0.0},),
    )
    write_variant_record(tmp_path, record)
    content = json.loads((tmp_path / VARIANT_FILE).read_text())
    assert content["schema"] == "coopexport.variant/1.1"
    assert list(content["widths"]) == list(WIDTHS)
    assert read_variant_record(tmp_path) == record
    (tmp_path / VARIANT_FILE).write_text(json.dumps({**content, "schema": "coopexport.variant/1.7", "energy_mj": 3}))
    assert read_variant_record(tmp_path) == record


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"step": "step3"}, ["variant.json: step", "make the variant again"]),
        ({"macs": "many"}, ["variant.json: macs"]),
        ({"right": "0ff0"}, ["one bit for each of 20 images"]),
        ({"right": "0ff0xx"}, ["one bit for each of 20 images"]),
        ({"schema": "coopexport.variant/2.0"}, ["variant/2.0"]),
    ],
)
def test_malformed_records_are_refused(tmp_path: Path, edit: dict[str, Any], words: list[str]) -> None:
    write_variant_record(tmp_path, record_of(right="0ff0f0"))
    content = json.loads((tmp_path / VARIANT_FILE).read_text())
    (tmp_path / VARIANT_FILE).write_text(json.dumps({**content, **edit}))
    with pytest.raises(CoopexportError) as caught:
        read_variant_record(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_right_images_come_back(right: list[bool]) -> None:
    metric = Metric(name="top1", value=0.5, reference=0.5, samples=len(right))
    record = record_of(metric=metric, right=pack_right(np.array(right, dtype=np.float64)))
    found = record.right_images()
    assert found is not None
    assert found.tolist() == right


def test_only_zeros_and_ones_are_right_or_wrong() -> None:
    assert pack_right(np.array([0.0, 0.5, 1.0])) is None
    assert pack_right(None) is None
    assert pack_right(np.array([1.0, 0.0, 0.0, 1.0])) == "90"
    assert record_of().right_images() is None


def test_records_are_in_order() -> None:
    def narrow(layer: str, width: int, **fields: Any) -> VariantRecord:
        return record_of(f"{layer}-{width}", method={"layer": layer, "width": width}, **fields)

    wanted = [
        record_of("step1", "step1"),
        *(record_of(f"step1-control-{number}", "control") for number in (1, 2, 9, 10)),
        narrow("conv1_1", 3),
        narrow("conv2_1", 12),
        narrow("conv2_1", 8),
        narrow("features.conv10_1", 5),
        narrow("pool2", 8),
        narrow("pool2", 4),
        narrow("pool10", 12),
        record_of("b-step1", "step1", series="b"),
        narrow("conv2_1", 8, series="b"),
    ]
    assert in_order(reversed(wanted)) == wanted
    assert [layer_position(record) for record in wanted[5:9]] == [0, 1, 1, 2]
    assert layer_position(narrow("conv7", 3)) == len(WIDTHS)
