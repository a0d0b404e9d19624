"""A selection made by hand: the demo's VGG-16 with numbers of the right size, through the real classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.latency.table import Latency
from benchmarks.selection.candidates import VariantFiles, list_candidates
from benchmarks.selection.part_times import Sources, times_of_target
from benchmarks.selection.project_selection import ProjectSelection, options_of
from benchmarks.selection.selector import select
from exporter.bundles.bundle import (
    CutTensorRecord,
    FileRecord,
    InputCoding,
    Metric,
    PayloadBytes,
    SplitFile,
    WholeFile,
    images_sha256,
)
from exporter.encoding.specification import EncodeSpecification
from exporter.project.settings import SelectSection

VGG_LAYERS = (
    "conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2", "conv3_3", "pool3",
    "conv4_1", "conv4_2", "conv4_3", "pool4", "conv5_1", "conv5_2", "conv5_3", "pool5",
)  # fmt: skip
# Elements of the feature behind each layer, quarter width; and the published run's cumulative times, whole net = 1.
ELEMENTS = (
    16384, 16384, 4096, 8192, 8192, 2048, 4096, 4096, 4096, 1024, 2048, 2048, 2048, 512, 512, 512, 512, 128,
)  # fmt: skip
CUMULATIVE = (
    0.013, 0.129, 0.146, 0.200, 0.299, 0.308, 0.356, 0.444, 0.538, 0.544, 0.591, 0.680, 0.774, 0.777, 0.852, 0.927,
    0.992, 0.993,
)  # fmt: skip
RUN = "20260801T101112Z-0a1b2c3d"
SAMPLES = 360


def payload(mean: float) -> PayloadBytes:
    return PayloadBytes(mean=mean, min=int(mean), max=int(mean) + 1, samples=SAMPLES)


MADE_FROM = {"graph": "model", "evaluation data": "images", "metric": "top1"}


def metric(value: float, reference: float = 0.9861) -> Metric:
    return Metric(name="top1", value=value, reference=reference, samples=SAMPLES)


def file(name: str) -> FileRecord:
    return FileRecord(file=name, sha256=f"sha256 of {name}")


def variant_files(
    variant: str, layers: Sequence[str], metric_value: float, byte_factor: float, jpeg_value: float
) -> VariantFiles:
    """Return the manifests of one variant; `byte_factor` scales its payloads, losses grow towards the input."""
    whole = WholeFile(
        variant=variant,
        made_from={**MADE_FROM, "select settings": "90"},
        model=file(f"{variant}/model.onnx"),
        preprocessing={},
        metric=metric(metric_value, metric_value),
        inputs={
            "raw": InputCoding(payload_bytes=payload(3090.0), metric=metric(metric_value, metric_value)),
            "jpeg": InputCoding(payload_bytes=payload(1312.4), metric=metric(jpeg_value), quality=90),
        },
        golden=file("golden.npz"),
    )
    splits = tuple(
        SplitFile(
            variant=variant,
            layer=layer,
            position="post-activation",
            made_from=MADE_FROM,
            head=file(f"{variant}/{layer}.head.onnx"),
            tail=file(f"{variant}/{layer}.tail.onnx"),
            tensors=(tensor(ELEMENTS[i % 18]),),
            preprocessing={},
            golden=file(f"{layer}.golden.npz"),
            parity=(),
            payload_bytes=payload(20 + 0.52 * byte_factor * ELEMENTS[i % 18]),
            metric=metric(metric_value - 0.001 * (i % 3), metric_value),
        )
        for i, layer in enumerate(layers)
    )
    return VariantFiles(variant, whole, splits)


def tensor(count: int) -> CutTensorRecord:
    """Return what crosses a cut: `count` symbols of 8 bits."""
    return CutTensorRecord(name="t", shape=(count,), encoding=EncodeSpecification("affine", 8), codec="zlib-huffman")


def latency_rows(files: VariantFiles, whole_ms: float, run: str = RUN) -> list[Latency]:
    """Return a row for each part of a variant; `whole_ms`: the whole network's time on the edge."""

    def row(layer: str, part: str, codec: str, sha256: str, p50_ms: float) -> Latency:
        spread = 0.02 + 0.001 * (len(layer + part) % 7)
        return Latency(run, "cpu", files.variant, layer, part, codec, sha256, 100, p50_ms, spread)

    images = images_sha256(files.whole)
    rows = [
        row("whole", "preprocess", "", images, 0.021),
        row("whole", "whole", "", files.whole.model.sha256, whole_ms),
        row("whole", "encode", "raw", images, 0.006),
        row("whole", "decode", "raw", images, 0.008),
        row("whole", "encode", "jpeg", images, 0.079),
        row("whole", "decode", "jpeg", images, 0.052),
    ]
    for i, split in enumerate(files.splits):
        share = CUMULATIVE[i % 18]
        bytes_mean = split.payload_bytes.mean
        rows += [
            row(split.layer, "head", "", split.head.sha256, whole_ms * share + 0.004),
            row(split.layer, "encode", split.codec, split.head.sha256, 0.012 + 1.2e-5 * bytes_mean),
            row(split.layer, "decode", split.codec, split.tail.sha256, 0.014 + 0.9e-5 * bytes_mean),
            row(split.layer, "tail", "", split.tail.sha256, whole_ms * (1 - share) + 0.004),
        ]
    return rows


def example_selection(
    layers: Sequence[str] = VGG_LAYERS,
    variants: Sequence[str] = ("original", "pruned"),
    whole_ms: Sequence[float] = (4.5, 1.1),
    settings: Mapping[str, Any] | None = None,
    pruned_metric: float = 0.9806,
    target: str = "cpu",
    without: Sequence[tuple[str, str, str]] = (),
) -> ProjectSelection:
    """Return a selection over `layers` of one or two variants, `whole_ms` each on the edge.

    `without`: (variant, layer, part) whose latency is missing.
    """
    metrics, factors = (0.9861, pruned_metric), (1.0, 0.22)
    files = tuple(
        variant_files(variant, layers, value, factor, value - 0.0056)
        for variant, value, factor in zip(variants, metrics, factors, strict=False)
    )
    rows = [row for item, time in zip(files, whole_ms, strict=False) for row in latency_rows(item, time)]
    rows = [row for row in rows if (row.variant, row.layer, row.part) not in without]
    section = SelectSection.model_validate(dict(settings or {}))
    reference = files[0].whole.metric.value
    sources = Sources(times_of_target("cpu", rows, {}), section.device_slowdown)
    candidates = list_candidates(files, sources, reference)
    selection = select(candidates, section.goodput_bps, section.maximum_loss_points, options_of(section))
    return ProjectSelection(selection, files, tuple(rows), section, target, reference, "top1", sources)
