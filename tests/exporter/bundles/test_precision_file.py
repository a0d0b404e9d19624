"""The manifest of a precision: read back as written, and refused when it is missing, malformed or stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.bundles.bundle import FileRecord, Metric, WholeFile, verify_file, write_bundle
from exporter.bundles.precision_file import (
    PRECISION_SCHEMA,
    FallbackLayer,
    PrecisionFile,
    RoleFile,
    Rounding,
    check_precision,
    precision_file_name,
    precision_inputs,
    read_precision,
)
from exporter.project.freshness import recorded
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

ROUNDING = Rounding(output_error=1e-3, symbol_fraction=0.02, symbol_difference=1)
GRAPH = b"a graph"


def write(folder: Path) -> PrecisionFile:
    tail = RoleFile(
        file=FileRecord(file="pool3.tail.fp16.onnx", sha256=sha256_of_bytes(GRAPH)),
        converted=("conv4_1",),
        float32_layers=(FallbackLayer(layer="fc", reason="the output of fc reaches 1e+05, above half's 65504"),),
        bounds=ROUNDING,
    )
    measured = Metric(name="top1", value=0.98, reference=0.98, samples=100, only_reference_right=1, only_this_right=1)
    manifest = PrecisionFile(
        variant="original",
        layer="pool3",
        precision="fp16",
        made_from={"graph": "of the graph"},
        roles={"tail": tail},
        golden=FileRecord(file="pool3.fp16.golden.npz", sha256="of the golden data"),
        metric=measured,
        against_float32=measured,
        maximum_loss_points=0.1,
        largest_activations={"conv4_1": 12.5},
        rounding=ROUNDING,
    )
    name = precision_file_name("pool3", "fp16")
    write_bundle(folder, name, PRECISION_SCHEMA, manifest, {"pool3.tail.fp16.onnx": GRAPH})
    return manifest


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    found = read_precision(tmp_path, "pool3", "fp16")
    assert found == manifest
    assert verify_file(tmp_path, found.roles["tail"].file).read_bytes() == GRAPH


def test_a_missing_manifest_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="coopexport precision --precision int8 --layer pool3"):
        read_precision(tmp_path, "pool3", "int8")
    with pytest.raises(CoopexportError, match="coopexport precision --precision fp16 --whole"):
        read_precision(tmp_path, "whole", "fp16")


def test_a_malformed_manifest_is_refused_by_key(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "pool3.fp16.json"
    path.write_text(path.read_text().replace('"symbol_difference": 1', '"symbol_difference": "much"'))
    with pytest.raises(CoopexportError, match=r"symbol_difference.*make it again with: coopexport precision"):
        read_precision(tmp_path, "pool3", "fp16")


BUNDLE = WholeFile.model_construct(
    made_from={"graph": "of the graph", "preprocessing": "scaled", "select settings": "90", "format": "whole/1.1"},
    model=FileRecord(file="model.onnx", sha256="of the float32 graph"),
    golden=FileRecord(file="whole.golden.npz", sha256="of float32's golden data"),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"made_from": {**BUNDLE.made_from, "preprocessing": "shifted"}}, "preprocessing changed"),
        ({"model": FileRecord(file="model.onnx", sha256="another")}, "float32 graphs changed"),
        ({"golden": FileRecord(file="whole.golden.npz", sha256="another")}, "float32 graphs changed"),
    ],
)
def test_a_form_of_another_bundle_is_stale(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    record = write(tmp_path).model_copy(update={"made_from": recorded(precision_inputs(BUNDLE))})
    check_precision(record, BUNDLE)
    coarser = {**BUNDLE.made_from, "select settings": "50", "format": "whole/1.2"}  # nothing that it is made from
    check_precision(record, BUNDLE.model_copy(update={"made_from": coarser}))
    with pytest.raises(CoopexportError, match=f"{said}; run: coopexport precision --precision fp16 --layer pool3"):
        check_precision(record, BUNDLE.model_copy(update=change))


def test_a_form_that_does_not_say_what_it_is_made_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="earlier version, which did not note from what; run: coopexport prec"):
        check_precision(write(tmp_path).model_copy(update={"made_from": {}}), BUNDLE)
