"""Candidates for the selector, out of a project's bundles and its latency table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.planning.latency_model import INPUT, OUTPUT, Candidate
from benchmarks.selection.part_times import PartTimes, SideTime, Sources, sum_of
from engines.building.build_items import WHOLE
from exporter.bundles.bundle import SplitFile, WholeFile, images_sha256, read_split, read_whole, split_layers
from exporter.project.freshness import FORMAT, changed_inputs

# From the bytes of a payload and of its reply to all bytes that cross for one image.
WireBytes = Callable[[float, float], float]


def payload_alone(payload_bytes: float, _: float) -> float:
    """Count the payload only, as the paper's model does."""
    return payload_bytes


@dataclass(frozen=True)
class VariantFiles:
    """What a variant has on the disk: its whole network and its split bundles, in the network's order.

    `step`: which of pruning it comes from, as in its record; empty where that is not known. `reply_bytes`: of its
    output for one image, as float32.
    """

    variant: str
    whole: WholeFile
    splits: tuple[SplitFile, ...]
    step: str = ""
    reply_bytes: float = 0.0


# Variants of these steps are compared as one; step 1 trained on is still step 1.
_FAMILIES = {"step1": "step 1", "control": "step 1", "step2": "step 2", "bottleneck": "bottlenecks"}


def read_variant(
    folder: Path, layer_order: Iterable[str], step: str = "", reply_bytes: float = 0.0
) -> VariantFiles:  # fmt: skip
    """Read a variant's manifests; `layer_order`: short layer names as the network runs them."""
    order = {name: index for index, name in enumerate(layer_order)}
    names = sorted(split_layers(folder), key=lambda name: order.get(name, len(order)))
    whole = read_whole(folder)
    splits = tuple(read_split(folder, name) for name in names)
    return VariantFiles(whole.variant, whole, splits, step, reply_bytes)


def list_candidates(
    variants: Iterable[VariantFiles], sources: Sources, reference: float, wire_bytes: WireBytes = payload_alone
) -> list[Candidate]:  # fmt: skip
    """Return all candidates of all variants.

    `reference`: the metric that losses are counted from. `wire_bytes`: counts what crosses beside the payload. A
    candidate whose latency is missing or was measured on other graphs, or whose metric was measured on other data, has
    a reason.
    """
    candidates: list[Candidate] = []
    for variant in variants:
        found = _unsplit(variant.whole, sources, reference)
        found += [_split(split, variant.whole, sources, reference) for split in variant.splits]
        family = _FAMILIES.get(variant.step, "")
        for item in found:
            crossing = wire_bytes(item.payload_bytes, variant.reply_bytes) if item.layer != OUTPUT else 0.0
            candidates.append(replace(item, family=family, wire_bytes=crossing))
    return candidates


def _unsplit(whole: WholeFile, sources: Sources, reference: float) -> list[Candidate]:
    """Return everything on the edge (raw and JPEG input) and everything on the device."""
    found = []
    hashes = {WHOLE: whole.model.sha256, "": images_sha256(whole)}
    for coding, item in whole.inputs.items():
        # Each candidate asks for its own parts, so that what another lacks is not held against it.
        parts = PartTimes(sources, whole.variant, WHOLE, hashes)
        device = sum_of(sources, parts.device("encode", coding))
        edge = sum_of(sources, parts.edge("decode", coding), parts.edge("preprocess"), parts.edge(WHOLE))
        label = coding if item.quality is None else f"{coding} q{item.quality}"
        loss = 100.0 * (reference - item.metric.value)
        found.append(
            Candidate(
                whole.variant, INPUT, label, item.payload_bytes.mean, device.ms, edge.ms, item.metric.value, loss,
                parts.reason(), device_origin=device.origin, edge_origin=edge.origin, note=_notes(device, edge),
            )
        )  # fmt: skip
    parts = PartTimes(sources, whole.variant, WHOLE, hashes)
    device = sum_of(sources, parts.device("preprocess"), parts.device(WHOLE))
    loss = 100.0 * (reference - whole.metric.value)
    found.append(
        Candidate(
            whole.variant, OUTPUT, "nothing", 0.0, device.ms, 0.0, whole.metric.value, loss, parts.reason(),
            device_origin=device.origin, note=device.note,
        )
    )  # fmt: skip
    return found


def _split(split: SplitFile, whole: WholeFile, sources: Sources, reference: float) -> Candidate:
    prepare = PartTimes(sources, split.variant, WHOLE, {"": images_sha256(whole)})
    hashes = {"head": split.head.sha256, "encode": split.head.sha256, "": split.tail.sha256}
    parts = PartTimes(sources, split.variant, split.layer, hashes)
    device = sum_of(
        sources, prepare.device("preprocess"), parts.device("head"), parts.device("encode", split.codec)
    )  # fmt: skip
    edge = sum_of(sources, parts.edge("decode", split.codec), parts.edge("tail"))
    reason = _outdated(split, whole) or parts.reason() or prepare.reason()
    return Candidate(
        split.variant, split.layer, split.coding, split.payload_bytes.mean, device.ms, edge.ms, split.metric.value,
        100.0 * (reference - split.metric.value), reason, device_origin=device.origin, edge_origin=edge.origin,
        note=_notes(device, edge),
    )  # fmt: skip


def _notes(*sides: SideTime) -> str:
    return "; ".join(side.note for side in sides if side.note)


def _outdated(split: SplitFile, whole: WholeFile) -> str:
    """Return why a bundle does not belong to the variant's present whole network, or nothing."""
    now = {name: value for name, value in whole.made_from.items() if name not in ("select settings", FORMAT)}
    changed = changed_inputs(split.made_from, now)
    named = ", ".join(changed)
    return f"split before {named} changed; run: coopexport split --layer {split.layer}" if changed else ""
