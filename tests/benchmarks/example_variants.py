"""Variants made by hand: the demo's VGG-16 pruned in two steps, with numbers of the right size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from example_selection import ELEMENTS, VGG_LAYERS, latency_rows, payload, variant_files

from benchmarks.latency.table import Latency
from benchmarks.report.variants_table import Feature, VariantRow
from benchmarks.selection.candidates import VariantFiles, list_candidates
from benchmarks.selection.part_times import Sources, times_of_target
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import select
from calibration.metrics.confidence import metric_interval
from exporter.bundles.bundle import Metric
from exporter.project.settings import SelectSection
from exporter.variants.record import VariantRecord, pack_right

SAMPLES = 1000
ORIGINAL_RIGHT = 986
CONVOLUTIONS = tuple(layer for layer in VGG_LAYERS if layer.startswith("conv"))
WIDTHS = (64, 32, 16, 8, 4, 2, 1)


def record(
    variant: str, step: str, right: int, macs: int, images: int | None = None, samples: int = SAMPLES, **fields: Any
) -> VariantRecord:
    """Return a record whose first `right` images are right, after `images` of training since step 1."""
    per_image = (np.arange(samples) < right).astype(np.float64)
    reference = ORIGINAL_RIGHT / samples
    plain: dict[str, Any] = {
        "variant": variant,
        "step": step,
        "made_from": {"graph": f"graph of {variant}"},
        "widths": dict.fromkeys(CONVOLUTIONS, 16),
        "macs": macs,
        "parameters": macs // 20,
        "training": {} if images is None else {"images_since_step1": images},
        "metric": Metric(name="top1", value=right / samples, reference=reference, samples=samples, data_sha256="data"),
        "interval": metric_interval(per_image),
        "right": pack_right(per_image),
    }
    return VariantRecord(**{**plain, **fields})


def step2(layer: str, width: int, number: int, right: int | None = None) -> VariantRecord:
    """Return step 2 at `layer`; it loses more the narrower it is, and earlier layers more than later ones."""
    depth = CONVOLUTIONS.index(layer)
    found = max(100, 982 - int((14 - depth) * 30 / width**1.3)) if right is None else right
    macs = 4_000_000 - (1 - width / 64) * (200_000 + 90_000 * ((5 * depth) % 13))
    origin = {"parent": "step1", "method": {"layer": layer, "width": width}, "cuts": (layer,)}
    return record(f"{layer}-{width}", "step2", found, int(macs), 1000 * number, **origin)


def features(layers: tuple[str, ...], width: int | None, wire: bool) -> tuple[Feature, ...]:
    """Return what crosses: all of a layer, or `width` of its 64 channels."""
    found = []
    for layer in layers:
        elements = ELEMENTS[VGG_LAYERS.index(layer)] * (64 if width is None else width) // 64 or 1
        found.append(Feature(layer, elements, 12 + 0.4 * elements if wire else None))
    return tuple(found)


def example_rows(layers: tuple[str, ...] = CONVOLUTIONS, wire: bool = True) -> list[VariantRow]:
    """Return rows as `variant_rows`: original, step 1, its controls, and a series of widths at each of `layers`."""
    records = [
        record("original", "original", ORIGINAL_RIGHT, 20_000_000),
        record("step1", "step1", 984, 4_000_000, 0, parent="original"),
        *(
            record(f"step1-control-{n}", "control", 983 + n % 3, 4_000_000, 1000 * n, parent="step1")
            for n in range(1, 8)
        ),
    ]
    rows = [VariantRow(item, features(layers, None, wire), outdated=False) for item in records]
    for layer in layers:
        for number, width in enumerate(WIDTHS, start=1):
            rows.append(VariantRow(step2(layer, width, number), features((layer,), width, wire), outdated=False))
    return rows


def files_and_rows(item: VariantRecord) -> tuple[VariantFiles, list[Latency]]:
    """Return what a variant has on the disk and how long its parts take: cut at its own cuts, or everywhere."""
    value, shrunk = item.metric.value, item.macs / 20_000_000
    files = variant_files(item.variant, VGG_LAYERS, value, shrunk, value - 0.0056)
    cuts = set(item.cuts or CONVOLUTIONS)
    width = int(item.method.get("width", 64))
    kept = tuple(
        replace_payload(split, 20 + 0.4 * ELEMENTS[VGG_LAYERS.index(split.layer)] * width / 64)
        for split in files.splits
        if split.layer in cuts
    )
    rows = [row for row in latency_rows(files, 5.0 * shrunk) if row.layer in (*cuts, "whole")]
    return replace(files, splits=kept, step=item.step), rows


def replace_payload(split: Any, mean: float) -> Any:
    return split.model_copy(update={"payload_bytes": payload(mean), "metric": split.metric})


def two_step_selection(rows: list[VariantRow] | None = None, **settings: Any) -> ProjectSelection:
    """Return the selection over the variants of `rows`, by default those of `example_rows`."""
    records = [row.record for row in (example_rows() if rows is None else rows)]
    made = [files_and_rows(item) for item in records]
    files, latencies = tuple(item for item, _ in made), tuple(row for _, rows_of in made for row in rows_of)
    section = SelectSection.model_validate(settings)
    reference = records[0].metric.value
    sources = Sources(times_of_target("cpu", latencies, {}), section.device_slowdown)
    candidates = list_candidates(files, sources, reference)
    selection = select(candidates, section.goodput_bps, section.maximum_loss_points)
    pruning = tuple(item for item in records if item.step not in ("original", "given"))
    return ProjectSelection(selection, files, latencies, section, "cpu", reference, "top1", sources, pruning)
