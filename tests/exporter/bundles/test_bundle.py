"""Bundles are read back as written; a file that is missing or altered is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from exporter.bundles.bundle import (
    WHOLE_SCHEMA,
    CutTensorRecord,
    FileRecord,
    InputCoding,
    Metric,
    PayloadBytes,
    SplitFile,
    WholeFile,
    golden_bytes,
    read_golden,
    read_split,
    read_whole,
    split_layers,
    verify_file,
    verify_weights,
    write_bundle,
)
from exporter.encoding.specification import FLOAT32, ClipRange, EncodeSpecification, affine_specification
from exporter.layers.export import export
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.weight_store import store_weights
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime import preprocessing
from jetson.runtime.bundle_manifest import SPLIT_SCHEMA

GOLDEN = {"images": np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), "outputs": np.float32([[1.5, -0.0, 1e-45]])}
METRIC = Metric(name="top1", value=0.9, reference=0.92, samples=100, only_reference_right=4, only_this_right=2)
PAYLOAD = PayloadBytes(mean=120.5, min=100, max=150, samples=100)


@pytest.fixture(scope="module")
def model(settled_vgg: nn.Module, random_images: np.ndarray) -> onnx.ModelProto:
    return export(settled_vgg, torch.from_numpy(random_images)).model


def manifest_of(files: dict[str, bytes], encoding: EncodeSpecification) -> SplitFile:
    records = {name.split(".")[1]: FileRecord(file=name, sha256=sha256_of_bytes(data)) for name, data in files.items()}
    return SplitFile(
        variant="pruned",
        layer="conv4_1",
        position="post-activation",
        made_from={"graph": "b" * 64},
        head=records["head"],
        tail=records["tail"],
        tensors=(CutTensorRecord(name="/t", shape=(4, 2, 2), encoding=encoding, codec="raw"),),
        preprocessing=preprocessing.to_json(preprocessing.Preprocessing(scale=1 / 255)),
        golden=records["golden"],
        parity=({"check": "cut", "error": 0.0},),
        payload_bytes=PAYLOAD,
        metric=METRIC,
    )


def specification(method: str) -> EncodeSpecification:
    if method == "float32":
        return FLOAT32
    percentile = 99.9 if method == "percentile" else None
    return affine_specification(ClipRange((0.1,), (2.3,), method, percentile, 8, (0.0,), (3.0,)))


@pytest.fixture
def bundle(tmp_path: Path, model: onnx.ModelProto) -> tuple[Path, SplitFile, dict[str, bytes]]:
    """A bundle on the disk (its two graphs are the whole one), its manifest, and all of its files."""
    graph = store_weights(model, tmp_path).SerializeToString(deterministic=True)
    files = {"conv4_1.head.onnx": graph, "conv4_1.tail.onnx": graph, "conv4_1.golden.npz": golden_bytes(GOLDEN)}
    manifest = manifest_of(files, specification("percentile"))
    write_bundle(tmp_path, "conv4_1.split.json", SPLIT_SCHEMA, manifest, files)
    weights = {f"weights/{path.name}": path.read_bytes() for path in (tmp_path / "weights").iterdir()}
    return tmp_path, manifest, {**weights, **files}


@pytest.mark.parametrize("method", ["percentile", "minmax", "float32"])
@pytest.mark.parametrize("paired", [True, False])
def test_round_trip_of_the_manifest(tmp_path: Path, method: str, paired: bool) -> None:
    files = {"conv4_1.head.onnx": b"h", "conv4_1.tail.onnx": b"t", "conv4_1.golden.npz": golden_bytes(GOLDEN)}
    manifest = manifest_of(files, specification(method))
    if not paired:
        metric = METRIC.model_copy(update={"only_reference_right": None, "only_this_right": None})
        manifest = manifest.model_copy(update={"metric": metric})
    write_bundle(tmp_path, "conv4_1.split.json", SPLIT_SCHEMA, manifest, files)
    assert read_split(tmp_path, "conv4_1") == manifest
    assert split_layers(tmp_path) == ["conv4_1"]
    content = json.loads((tmp_path / "conv4_1.split.json").read_text())
    assert content["schema"] == "coopexport.split/2.1"
    assert ("only_this_right" in content["metric"]) == paired
    assert ("percentile" in content["tensors"][0]["encoding"].get("clip", {})) == (method == "percentile")
    assert read_split(tmp_path, "conv4_1").declared_preprocessing() == preprocessing.Preprocessing(scale=1 / 255)


def test_round_trip_of_the_whole(tmp_path: Path) -> None:
    golden = golden_bytes(GOLDEN)
    whole = WholeFile(
        variant="original",
        made_from={"graph": "b" * 64},
        model=FileRecord(file="model.onnx", sha256="b" * 64),
        preprocessing=preprocessing.to_json(preprocessing.Preprocessing()),
        metric=METRIC,
        inputs={
            "raw": InputCoding(payload_bytes=PAYLOAD, metric=METRIC),
            "jpeg": InputCoding(payload_bytes=PAYLOAD, metric=METRIC, quality=90),
        },
        golden=FileRecord(file="whole.golden.npz", sha256=sha256_of_bytes(golden)),
    )
    write_bundle(tmp_path, "whole.json", WHOLE_SCHEMA, whole, {"whole.golden.npz": golden})
    assert read_whole(tmp_path) == whole


def test_golden_data_come_back_bit_for_bit_and_without_pickle(bundle) -> None:
    folder, manifest, _ = bundle
    found = read_golden(folder, manifest.golden)
    assert set(found) == set(GOLDEN)
    assert all(found[name].tobytes() == value.tobytes() for name, value in GOLDEN.items())
    assert golden_bytes(GOLDEN) == golden_bytes(GOLDEN)
    with pytest.raises(TypeError, match="labels"):
        golden_bytes({"labels": np.array([{"a": 1}], dtype=object)})


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_missing_or_altered_file_is_refused_by_name(bundle, damage: str) -> None:
    folder, manifest, files = bundle
    for name in files:
        path = folder / name
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CoopexportError) as caught:
            for record in (manifest.head, manifest.tail):
                verify_weights(folder, verify_file(folder, record))
            read_golden(folder, manifest.golden)
        assert str(path) in str(caught.value)
        path.write_bytes(content)
    verify_weights(folder, verify_file(folder, manifest.head))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: content.update(schema="coopexport.split/1.0"), ["coopexport.split/1.0", SPLIT_SCHEMA]),
        (lambda content: content.update(schema="coopexport.whole/1.0"), ["coopexport.whole/1.0", SPLIT_SCHEMA]),
        (lambda content: content.pop("golden"), ["golden", "coopexport split"]),
        (lambda content: content["tensors"][0].update(shape="large"), ["tensors.0.shape"]),
        (lambda content: content["tensors"][0]["encoding"].update(kind="delta"), ["tensors.0.encoding.kind"]),
    ],
)
def test_manifests_of_another_kind_are_refused(bundle, edit, words: list[str]) -> None:
    path = bundle[0] / "conv4_1.split.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CoopexportError) as caught:
        read_split(bundle[0], "conv4_1")
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_later_minor_versions_are_read(bundle) -> None:
    folder, manifest, _ = bundle
    path = folder / "conv4_1.split.json"
    content = json.loads(path.read_text())
    content.update(schema="coopexport.split/2.4", more="to come")
    content["tensors"][0]["more"] = 1
    path.write_text(json.dumps(content))
    assert read_split(folder, "conv4_1") == manifest


def test_a_missing_bundle_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="coopexport split --layer conv9"):
        read_split(tmp_path, "conv9")
    with pytest.raises(CoopexportError, match=r"whole\.json; make it with: coopexport split"):
        read_whole(tmp_path)


# Weights beside the graphs.


def test_a_graph_with_its_weights_beside_it_loads_everywhere(
    bundle, model: onnx.ModelProto, random_images: np.ndarray
) -> None:
    folder, _, _ = bundle
    path = folder / "conv4_1.head.onnx"
    onnx.checker.check_model(str(path))
    loaded = onnx.load(str(path))
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    assert all(np.array_equal(found[name], value) for name, value in wanted.items())
    expected = run(open_session(model, "disabled"), [random_images])[0]
    for source in (path, loaded):
        outputs = run(open_session(source, "disabled"), [random_images])[0]
        assert np.array_equal(outputs.view(np.uint32), expected.view(np.uint32))


def test_loss_is_counted_in_points() -> None:
    assert METRIC.loss_points == pytest.approx(2.0)
