"""What a device is sent to build and to measure: engines with golden data, codecs, images, the reference network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.measured_items import item_settings
from benchmarks.latency.reference import REFERENCE, reference_model, reference_sha256
from engines.building.build_items import FLOAT32, WHOLE, BuildItem
from engines.building.prepared_file import prepare
from engines.device_builds.requests import OrderedMeasurement, PendingEngine, pending_engine
from engines.preflight.check import buildable_graph_warnings
from engines.target_files.target_file import describe_values, target_file
from engines.targets.target import Target
from exporter.bundles.bundle import WholeFile, images_sha256, read_feature_codec, read_golden, read_split, read_whole
from exporter.onnx_graphs.session import open_session, run
from exporter.parity import BUILD_BOUND
from exporter.progress import OnProgress, counter
from exporter.variants.choice import naming
from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import OutputForm
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import EngineSpec, encode_samples
from jetson.requests.measurement import CodedImages, CodedTensor, CutCoding, ImageInput, Measurement, encode_images
from jetson.runtime import preprocessing
from jetson.runtime.image_parts import as_sent
from jetson.tensorrt_engines.tensor_info import declared_tensors
from jetson.wire.feature import FeatureTensor, without_uint8
from jetson.wire.image_message import RAW, ImageCoding, decode_image, encode_image
from jetson.wire.pictures import picture_libraries
from jetson.wire.symbol_model import model_to_bytes

# What the reference network's engine is checked on, as every other one.
_REFERENCE_SAMPLES, _REFERENCE_SEED = 8, 20190312
# Enough to see another quality, chroma or order of colours, and few bytes.
_COMPARED_IMAGES = 4


@dataclass(frozen=True)
class BenchOrder:
    """What goes to a device. `kept`: the engines of the project; `pending`: these, and the reference network's.

    `without_reference`: why the target's builder does not take the reference network; empty where it does.
    """

    kept: tuple[PendingEngine, ...]
    pending: tuple[PendingEngine, ...]
    measured: OrderedMeasurement
    without_reference: str = ""


def bench_order(
    items: Sequence[BuildItem],
    target: Target,
    settings: BuildSettings,
    rounds: int,
    warm_up: int,
    on_progress: OnProgress,
    batches: Sequence[int] = (1,),
) -> BenchOrder:
    """Return what a device is to build and to measure of `items`, each for every batch.

    `settings`: for all, before `item_settings`. Raises CoopexportError as `prepare` does.
    """
    on_item = counter(on_progress, f"preparing for {target.name}", len(items) * len(batches))
    kept: list[PendingEngine] = []
    cuts: list[CutCoding] = []
    files: dict[str, bytes] = {}
    named = {
        (item.variant, item.layer, item.precision, batch, item.role): item
        for item, batch in itertools.product(items, batches)
    }
    for (_, _, precision, batch, _), item in named.items():
        with naming(item.variant):
            kept.append(pending_engine(prepare(item, target, item_settings(settings, precision, batch))))
        on_item(len(kept))
    names = {key: one.item.name for key, one in zip(named, kept, strict=True)}
    for key, head in named.items():
        tail_key = (*key[:-1], "tail")
        if head.role == "head" and tail_key in named:
            cuts.append(_cut_coding((head, names[key]), (named[tail_key], names[tail_key]), target, files))
    images = [_image_input(folder, files) for folder in dict.fromkeys(item.folder for item in items)]
    reference, reason = _reference(target, item_settings(settings, FLOAT32, 1))
    measurement = Measurement(
        rounds,
        warm_up,
        target.power_mode,
        None if reference is None else reference.item.name,
        tuple(cuts),
        tuple(images),
        reason or None,
    )
    pending = (*kept, *(() if reference is None else (reference,)))
    return BenchOrder(tuple(kept), pending, OrderedMeasurement(measurement, files), reason)


def _cut_coding(
    head: tuple[BuildItem, str], tail: tuple[BuildItem, str], target: Target, files: dict[str, bytes]
) -> CutCoding:
    """Return what codes the feature of a cut in the form of the target's engines; its tables go into `files`.

    `head`, `tail`: graphs, and the names of their items in the order.
    """
    (item, head_name), (tail_item, tail_name) = head, tail
    bundle = read_split(item.folder, item.layer)
    codec = read_feature_codec(item.folder, bundle)
    return CutCoding(
        item.variant,
        item.layer,
        bundle.codec,
        head_name,
        tail_name,
        item.graph.sha256,
        tail_item.graph.sha256,
        codec.associated_data.decode("ascii"),
        tuple(_coded(tensor if target.uint8 else without_uint8(tensor), files) for tensor in codec.tensors),
    )


def _coded(tensor: FeatureTensor, files: dict[str, bytes]) -> CodedTensor:
    fields = (tensor.name, tensor.shape, tensor.kind, tensor.bits, tensor.packing, tensor.codec)
    if tensor.model is None:
        return CodedTensor(*fields)
    tables = model_to_bytes(tensor.model)
    sha256 = sha256_of_bytes(tables)
    files[sha256] = tables
    return CodedTensor(*fields, sha256, len(tables))


def _image_input(folder: Path, files: dict[str, bytes]) -> ImageInput:
    """Return what images go through before a variant's networks; the golden images go into `files`."""
    whole = read_whole(folder)
    golden = read_golden(folder, whole.golden)["images"]
    images = encode_images(golden)
    sha256 = sha256_of_bytes(images)
    files[sha256] = images
    declaration = preprocessing.to_json(whole.declared_preprocessing())
    coded = tuple(_coded_images(whole, coding, golden, files) for coding in whole.codings() if coding.name != RAW)
    return ImageInput(whole.variant, images_sha256(whole), declaration, sha256, len(images), coded)


def _coded_images(
    whole: WholeFile, coding: ImageCoding, images: NDArray[np.uint8], files: dict[str, bytes]
) -> CodedImages:  # fmt: skip
    """Return what a device compares its own coding with; the first images as they are decoded here go into `files`."""
    declaration = whole.declared_preprocessing()
    sent = [as_sent(declaration, coding, image) for image in images[:_COMPARED_IMAGES]]
    payloads = [encode_image(coding, image) for image in sent]
    decoded = [decode_image(coding, payload, image.shape) for payload, image in zip(payloads, sent, strict=True)]
    data = encode_images(np.stack(decoded))
    sha256 = sha256_of_bytes(data)
    files[sha256] = data
    pillow = None if coding.quality is None else picture_libraries()["pillow"]
    return CodedImages(coding.name, coding.quality, tuple(map(len, payloads)), sha256, len(data), pillow)


def _reference(target: Target, settings: BuildSettings) -> tuple[PendingEngine | None, str]:
    """Return the reference network as one more engine and "", or None and why the target does not take it."""
    model, title = reference_model(), "the reference network"
    try:
        file = target_file(model, target, settings.batches, title)
        buildable_graph_warnings(file, target, settings, title)
    except CoopexportError as error:
        return None, str(error)
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    random = np.random.RandomState(_REFERENCE_SEED)
    inputs = (2 * random.random_sample((_REFERENCE_SAMPLES, *shape[1:])) - 1).astype(np.float32)
    session = open_session(model, "disabled")
    expected = np.concatenate([run(session, [inputs[index : index + 1]])[0] for index in range(len(inputs))])
    data, samples = file.SerializeToString(deterministic=True), encode_samples([inputs], [expected])
    spec = EngineSpec(
        name=f"{REFERENCE}/{WHOLE}",
        variant=REFERENCE,
        layer=WHOLE,
        role=WHOLE,
        graph_sha256=sha256_of_bytes(data),
        graph_bytes=len(data),
        source_sha256=reference_sha256(),
        golden_sha256=sha256_of_bytes(samples),
        samples_sha256=sha256_of_bytes(samples),
        samples_bytes=len(samples),
        settings=settings,
        inputs=tuple(declared_tensors(describe_values(file.graph.input))),
        outputs=tuple(declared_tensors(describe_values(file.graph.output))),
        forms=(OutputForm("numbers", BUILD_BOUND),),
    )
    return PendingEngine(spec, {spec.graph_sha256: data, spec.samples_sha256: samples}, Path(REFERENCE)), ""
