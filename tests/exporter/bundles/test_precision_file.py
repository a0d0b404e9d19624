"""The manifest of a precision: read back as written, and refused when it is missing, malformed or stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.bundles.bundle import FileRecord, Metric, write_bundle
from exporter.bundles.precision_file import (
    PRECISION_SCHEMA,
    FallbackLayer,
    PrecisionFile,
    RoleFile,
    Rounding,
    check_same_data,
    precision_file_name,
    read_precision,
    verify_role,
)
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

ROUNDING = Rounding(output_error=1e-3, symbol_fraction=0.02, symbol_difference=1)
GRAPH = b"a graph"


def write(folder: Path) -> PrecisionFile:
    tail = RoleFile(
        file=FileRecord(file="pool3.tail.fp16.onnx", sha256=sha256_of_bytes(GRAPH)),
        source_sha256="of the float32 tail",
        converted=("conv4_1",),
        float32_layers=(FallbackLayer(layer="fc", reason="the output of fc reaches 1e+05, above half's 65504"),),
        bounds=ROUNDING,
    )
    measured = Metric(name="top1", value=0.98, reference=0.98, samples=100, only_reference_right=1, only_this_right=1)
    manifest = PrecisionFile(
        variant="original",
        layer="pool3",
        precision="fp16",
        model_sha256="of the whole graph",
        float32_golden_sha256="of float32's golden data",
        roles={"tail": tail},
        golden=FileRecord(file="pool3.fp16.golden.npz", sha256="of the golden data"),
        metric=measured,
        against_float32=measured,
        maximum_loss_points=0.1,
        largest_activations={"conv4_1": 12.5},
        rounding=ROUNDING,
        recipe_sha256="of the recipe",
    )
    name = precision_file_name("pool3", "fp16")
    write_bundle(folder, name, PRECISION_SCHEMA, manifest, {"pool3.tail.fp16.onnx": GRAPH})
    return manifest


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    found = read_precision(tmp_path, "pool3", "fp16")
    assert found == manifest
    path = verify_role(tmp_path, found, "tail", "of the float32 tail")
    assert path.read_bytes() == GRAPH


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


def test_a_graph_of_another_float32_graph_or_another_content_is_refused(tmp_path: Path) -> None:
    found = write(tmp_path)
    with pytest.raises(CoopexportError, match="older tail of pool3"):
        verify_role(tmp_path, found, "tail", "of another tail")
    (tmp_path / "pool3.tail.fp16.onnx").write_bytes(b"another graph")
    with pytest.raises(CoopexportError, match="not the file that its manifest names"):
        verify_role(tmp_path, found, "tail", "of the float32 tail")


@pytest.mark.parametrize(
    ("golden", "evaluation", "said"),
    [
        ("of other golden data", "of the images", "calibration data or preprocessing changed"),
        ("of float32's golden data", "of other images", "evaluation data or metric changed"),
    ],
)
def test_a_form_of_other_data_is_stale(tmp_path: Path, golden: str, evaluation: str, said: str) -> None:
    measured = Metric(name="top1", value=0.9, reference=0.9, samples=100, data_sha256="of the images")
    manifest = write(tmp_path).model_copy(update={"metric": measured})
    check_same_data(manifest, FileRecord(file="pool3.golden.npz", sha256="of float32's golden data"), measured)
    now = measured.model_copy(update={"data_sha256": evaluation, "value": 0.8})
    with pytest.raises(CoopexportError, match=f"{said}; make it again with: .*--precision fp16 --layer pool3"):
        check_same_data(manifest, FileRecord(file="pool3.golden.npz", sha256=golden), now)
