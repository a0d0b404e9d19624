"""What a split writes down equals what anyone can compute again from the files that it wrote."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests_support import files_below

from calibration.metrics.metric import Score, top1
from calibration.splitting import split_variant
from calibration.splitting.context import SplitContext, calibrated_cut_tensors, open_context
from calibration.splitting.split_variant import check_loss, finished_split, write_split
from calibration.splitting.whole_variant import write_whole
from exporter.bundles.bundle import (
    WHOLE_SCHEMA,
    SplitFile,
    WholeFile,
    read_feature_codec,
    read_golden,
    read_split,
    read_whole,
)
from exporter.cutting.split import CutTensor
from exporter.data.datasets import load_dataset
from exporter.encoding.specification import decode, encode
from exporter.layers.candidates import Layer
from exporter.layers.names import find_layer
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import Project, SplitSection, load_project
from exporter.variants.layer_graphs import layer_graph
from jetson.errors import CoopexportError, InputError, ParityError
from jetson.runtime import preprocessing
from jetson.wire.image_message import raw_payload
from jetson.wire.pictures import decode_picture, encode_picture

VARIANTS = ("original", "pruned")
LAYERS = ("conv4_1", "pool3")


@pytest.fixture(scope="module")
def finished(split_project: Path) -> Project:
    return load_project(split_project / "coopexport.toml")


def graph_outputs(path: Path, inputs: np.ndarray) -> np.ndarray:
    """Run a graph as the edge would, without anything of this room."""
    return run(open_session(onnx.load(str(path)), "all"), [inputs])[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", LAYERS)
def test_metric_and_bytes_are_those_of_the_written_files(finished: Project, variant: str, layer: str) -> None:
    folder = finished.variant_folder(variant)
    bundle = read_split(folder, layer)
    evaluation = load_dataset(finished, "evaluation")
    inputs = preprocessing.apply(bundle.declared_preprocessing(), evaluation.images)
    symbols = graph_outputs(folder / bundle.head.file, inputs)
    # Each image's message, through the link and out again, then the tail.
    codec = read_feature_codec(folder, bundle)
    messages = [codec.encode([symbols[index : index + 1]]) for index in range(len(symbols))]
    arrived = np.concatenate([codec.decode(message)[0] for message in messages])
    right = graph_outputs(folder / bundle.tail.file, arrived).argmax(axis=1) == evaluation.labels
    right_uncut = graph_outputs(folder / "model.onnx", inputs).argmax(axis=1) == evaluation.labels
    found = bundle.metric
    assert (found.name, found.samples) == ("top1", len(evaluation.images))
    assert found.value == pytest.approx(right.mean())
    assert found.reference == pytest.approx(right_uncut.mean())
    assert found.only_reference_right == int((right_uncut & ~right).sum())
    assert found.only_this_right == int((right & ~right_uncut).sum())
    sizes = [len(message) for message in messages]
    payload = bundle.payload_bytes
    assert (payload.min, payload.max, payload.samples) == (min(sizes), max(sizes), len(sizes))
    assert payload.mean == pytest.approx(np.mean(sizes))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", [*LAYERS, "whole"])
def test_golden_data_are_true_from_the_image_on(finished: Project, variant: str, layer: str) -> None:
    folder = finished.variant_folder(variant)
    bundle: SplitFile | WholeFile = read_whole(folder) if layer == "whole" else read_split(folder, layer)
    golden = read_golden(folder, bundle.golden)
    assert {len(value) for value in golden.values()} == {16}
    assert golden["images"].dtype == np.uint8
    assert np.array_equal(golden["images"], load_dataset(finished, "calibration").images[:16])
    inputs = preprocessing.apply(bundle.declared_preprocessing(), golden["images"])
    assert inputs.tobytes() == golden["inputs"].tobytes()

    def outputs(path: str, given: np.ndarray) -> np.ndarray:
        return run(open_session(onnx.load(str(folder / path)), "disabled"), [given])[0]

    if isinstance(bundle, WholeFile):
        assert outputs(bundle.model.file, inputs).tobytes() == golden["outputs"].tobytes()
        return
    assert outputs(bundle.head.file, inputs).tobytes() == golden["symbols_0"].tobytes()
    assert outputs(bundle.tail.file, golden["symbols_0"]).tobytes() == golden["outputs"].tobytes()
    tensor = bundle.tensors[0]
    whole = onnx.load(str(folder / "model.onnx"))
    del whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor.name))
    feature = run(open_session(whole, "disabled"), [inputs])[0]
    assert feature.shape[1:] == tensor.shape
    assert np.array_equal(encode(tensor.encoding, feature), golden["symbols_0"])
    # What crossed is the feature to half a step, where it was not clipped.
    inside = feature <= tensor.encoding.clip.high[0]  # type: ignore[union-attr]
    difference = np.abs(decode(tensor.encoding, golden["symbols_0"]) - feature)[inside]
    assert difference.max() <= 0.5001 * tensor.encoding.step[0]


@pytest.mark.parametrize(
    "altered",
    [
        {"mean": [0.5, 0.5, 0.51]},
        {"std": [0.25, 0.25, 0.2501]},
        {"scale": 1 / 256},
        {"colour_order": "BGR"},
        {"resize": [31, 31], "crop": None},
    ],
)
def test_altered_preprocessing_shows_in_the_golden_data(finished: Project, altered: dict[str, object]) -> None:
    folder = finished.variant_folder("pruned")
    bundle = read_split(folder, "conv4_1")
    assert bundle.preprocessing == preprocessing.to_json(finished.preprocessing)
    golden = read_golden(folder, bundle.golden)
    # Digits in grey would hide the order of colours.
    images = golden["images"].copy()
    images[..., 0] //= 2
    declaration = preprocessing.from_json({**bundle.preprocessing, **altered})
    assert not np.array_equal(
        preprocessing.apply(declaration, images), preprocessing.apply(bundle.declared_preprocessing(), images)
    )
    if "colour_order" not in altered:
        assert not np.array_equal(preprocessing.apply(declaration, golden["images"]), golden["inputs"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_file_measures_raw_and_coded_input(finished: Project, variant: str) -> None:
    folder = finished.variant_folder(variant)
    whole = read_whole(folder)
    evaluation = load_dataset(finished, "evaluation")

    def right(images: np.ndarray) -> np.ndarray:
        inputs = preprocessing.apply(whole.declared_preprocessing(), images)
        return graph_outputs(folder / whole.model.file, inputs).argmax(axis=1) == evaluation.labels

    uncut = right(evaluation.images)
    assert whole.metric.value == whole.metric.reference == pytest.approx(uncut.mean())
    assert whole.metric.loss_points == 0
    raw = whole.inputs["raw"]
    assert (raw.metric, raw.quality) == (whole.metric, None)
    # Nothing resizes here: files, and what they were made from, are as they were.
    assert (list(whole.inputs), whole.made_from["format"]) == (["raw", "jpeg", "webp"], WHOLE_SCHEMA)
    assert raw.payload_bytes.min == raw.payload_bytes.max == len(raw_payload(evaluation.images[0]))

    for codec in ("jpeg", "webp"):
        coded = whole.inputs[codec]
        assert coded.quality is not None
        assert coded.metric.loss_points <= finished.settings.select.maximum_loss_points + 1e-6 or coded.quality == 95
        files = [encode_picture(codec, image, coded.quality) for image in evaluation.images]
        arrived = right(np.stack([decode_picture(file) for file in files]))
        assert coded.metric.value == pytest.approx(arrived.mean())
        assert coded.metric.reference == whole.metric.value
        assert coded.metric.only_reference_right == int((uncut & ~arrived).sum())
        assert coded.metric.only_this_right == int((arrived & ~uncut).sum())
        sizes = [len(file) for file in files]
        assert (coded.payload_bytes.min, coded.payload_bytes.max) == (min(sizes), max(sizes))
        assert coded.payload_bytes.mean == pytest.approx(np.mean(sizes))


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_tighter_bound_never_lowers_the_quality(context: SplitContext, codec: str) -> None:
    settings, qualities = context.project.settings, []
    for bound in (0.0, 5.0, 100.0):
        select = settings.select.model_copy(update={"maximum_loss_points": bound})
        changed = dataclasses.replace(context.project, settings=settings.model_copy(update={"select": select}))
        qualities.append(write_whole(dataclasses.replace(context, project=changed))[1].inputs[codec].quality)
    assert qualities == sorted(qualities, reverse=True)
    assert qualities[-1] == 1
    assert qualities[0] > 1


@pytest.fixture
def context(finished_project: Path) -> SplitContext:
    """The pruned variant of a project of its own, opened to be split again."""
    loaded = load_project(finished_project / "coopexport.toml")
    return open_context(loaded, SplitSection(), layer_graph(loaded, "pruned"))


@pytest.mark.parametrize("quality", [2, 95])
def test_jpeg_is_coded_at_the_projects_quality(context: SplitContext, quality: int) -> None:
    settings = context.project.settings
    select = settings.select.model_copy(update={"jpeg_quality": quality})
    changed = dataclasses.replace(context.project, settings=settings.model_copy(update={"select": select}))
    _, whole = write_whole(dataclasses.replace(context, project=changed))
    evaluation = context.data.evaluation
    payloads = [encode_picture("jpeg", image, quality) for image in evaluation.images]
    arrived = np.stack([decode_picture(payload) for payload in payloads])
    outputs = graph_outputs(
        context.graph.folder / "model.onnx", preprocessing.apply(whole.declared_preprocessing(), arrived)
    )
    jpeg = whole.inputs["jpeg"]
    assert jpeg.quality == quality
    assert jpeg.payload_bytes.mean == pytest.approx(np.mean([len(payload) for payload in payloads]))
    assert jpeg.metric.value == pytest.approx(top1(outputs, evaluation.labels).mean())
    assert whole.inputs["raw"].metric == whole.metric
    assert (jpeg.metric != whole.metric) or quality == 95
    assert jpeg.metric.reference == whole.metric.value


def layer_and_cut_tensors(context: SplitContext, name: str) -> tuple[Layer, tuple[CutTensor, ...]]:
    layer = find_layer(context.graph.layers, name)
    return layer, calibrated_cut_tensors(context, [layer])[layer.name]


def test_the_same_split_again_writes_the_same_bytes(context: SplitContext) -> None:
    folder = context.graph.folder
    names = [name for name in files_below(folder) if name.startswith(("conv4_1", "whole", "weights", "calibration"))]
    before = {name: (folder / name).read_bytes() for name in names}
    manifest = write_split(context, *layer_and_cut_tensors(context, "conv4_1"))
    write_whole(context)
    assert manifest == read_split(folder, "conv4_1")
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_a_bundle_is_finished_while_it_is_whole_and_nothing_that_it_is_made_from_changed(context: SplitContext) -> None:
    layer, cut_tensors = layer_and_cut_tensors(context, "conv4_1")
    first = read_split(context.graph.folder, "conv4_1")
    assert finished_split(context, layer) == first
    tail = context.graph.folder / first.tail.file
    good = tail.read_bytes()
    tail.write_bytes(good[:-1])
    assert finished_split(context, layer) is None
    assert write_split(context, layer, cut_tensors) == first
    assert tail.read_bytes() == good
    other = dataclasses.replace(context, settings=context.settings.model_copy(update={"bits": 7}))
    assert finished_split(other, layer) is None
    second = write_split(other, *layer_and_cut_tensors(other, "conv4_1"))
    assert second.tensors[0].encoding.bits == 7
    assert finished_split(context, layer) is None
    assert write_split(context, layer, cut_tensors) == first
    check_loss(context, "conv4_1", first.metric)
    with pytest.raises(ParityError, match="points of top1"):
        check_loss(context, "conv4_1", first.metric.model_copy(update={"value": 0.1}))
    # What cannot be read is told: it is neither missing nor made from something else.
    (context.graph.folder / "conv4_1.split.json").unlink()
    (context.graph.folder / "conv4_1.split.json").mkdir()
    with pytest.raises(InputError, match=r"conv4_1\.split\.json cannot be read"):
        finished_split(context, layer)


def test_too_much_loss_is_refused_and_nothing_is_written(context: SplitContext) -> None:
    coarse = dataclasses.replace(context, settings=SplitSection(percentile=50.1, maximum_loss_points=0.4))
    arguments = layer_and_cut_tensors(coarse, "conv1_1")
    before = {name: (context.graph.folder / name).stat().st_mtime_ns for name in files_below(context.graph.folder)}
    with pytest.raises(ParityError, match=r"layer conv1_1 of pruned: .* costs \d+\.\d\d points of top1") as error:
        write_split(coarse, *arguments)
    assert error.value.layer == "conv1_1"
    assert f"costs {error.value.number:.2f} points" in str(error.value)
    after = {name: (context.graph.folder / name).stat().st_mtime_ns for name in files_below(context.graph.folder)}
    assert after == before


@pytest.mark.parametrize(("allowed", "refused"), [(1.0, False), (0.99, True)])
def test_a_loss_of_exactly_the_bound_is_allowed(context: SplitContext, allowed: float, refused: bool) -> None:
    """In floating point 100 * (0.98 - 0.97) is a little more than 1."""
    fixed = dataclasses.replace(
        context,
        settings=SplitSection(maximum_loss_points=allowed),
    )
    fixed.data.__dict__["metric"] = ("fixed", lambda outputs, labels: 0.97)
    fixed.variant.__dict__["whole"] = Score("fixed", 0.98, len(context.data.evaluation.labels), None)
    arguments = layer_and_cut_tensors(context, "conv4_1")
    if refused:
        with pytest.raises(
            CoopexportError, match=r"costs 1\.00 points of fixed \(0\.9800 to 0\.9700\), the limit is 0\.99"
        ):
            write_split(fixed, *arguments)
        return
    assert write_split(fixed, *arguments).metric.only_this_right is None


@pytest.mark.parametrize("name", ["input", "output", "whole"])
def test_names_of_the_uncut_candidates_are_refused(
    context: SplitContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(split_variant, "display_name", lambda layers, layer: name)
    before = files_below(context.graph.folder)
    with pytest.raises(CoopexportError, match=f'a bundle cannot be called "{name}"'):
        write_split(context, *layer_and_cut_tensors(context, "conv4_1"))
    assert files_below(context.graph.folder) == before


def test_float32_crosses_as_it_is(context: SplitContext) -> None:
    plain = dataclasses.replace(context, settings=SplitSection(encoding="float32", codec="raw"))
    manifest = write_split(plain, *layer_and_cut_tensors(plain, "conv4_1"))
    assert (manifest.tensors[0].encoding.kind, manifest.codec) == ("float32", "raw")
    assert manifest.metric.value == manifest.metric.reference == context.variant.whole.value
    assert manifest.payload_bytes.min == manifest.payload_bytes.max
    golden = read_golden(context.graph.folder, manifest.golden)
    assert golden["symbols_0"].dtype == np.float32
    codec = read_feature_codec(context.graph.folder, manifest)
    assert manifest.payload_bytes.mean == len(codec.encode([golden["symbols_0"][:1]]))


def test_the_reference_is_the_whole_network_on_the_same_images(context: SplitContext) -> None:
    outputs = graph_outputs(context.graph.folder / "model.onnx", context.data.evaluation_inputs)
    assert context.variant.whole.value == pytest.approx(top1(outputs, context.data.evaluation.labels).mean())
    manifest = json.loads((context.graph.folder / "conv4_1.split.json").read_text())
    assert manifest["metric"]["reference"] == context.variant.whole.value
    assert len(context.data.calibration_inputs) == min(256, len(context.data.calibration.images))
