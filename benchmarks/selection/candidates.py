"""Candidates for the selector, out of a project's bundles and its latency table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.planning.latency_model import INPUT, OUTPUT, Candidate
from benchmarks.selection.part_times import PartTimes, SideTime, Sources, sum_mj, sum_of
from engines.building.build_items import FLOAT32, WHOLE
from exporter.bundles.bundle import SplitFile, WholeFile, images_sha256, read_split, read_whole, split_layers
from exporter.bundles.precision_file import (
    PrecisionFile,
    conversion_command,
    precision_file_name,
    precision_inputs,
    read_precision,
)
from exporter.project.freshness import FORMAT, changed_inputs
from jetson.wire.image_message import RESIZED, is_resized

# From the bytes of a payload and of its reply to all bytes that cross.
WireBytes = Callable[[float, float], float]


def payload_alone(payload_bytes: float, _: float) -> float:
    """Count the payload only, as the paper's model does."""
    return payload_bytes


@dataclass(frozen=True)
class VariantFiles:
    """What a variant has on the disk: its whole network and its split bundles, in the network's order.

    `step`: which of pruning it comes from, as in its record; empty where that is not known. `reply_bytes`: of its
    output for one image, as float32. `forms`: of the bundles in other precisions.
    """

    variant: str
    whole: WholeFile
    splits: tuple[SplitFile, ...]
    step: str = ""
    reply_bytes: float = 0.0
    forms: tuple[PrecisionFile, ...] = ()


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


def with_forms(files: VariantFiles, folder: Path, precisions: Iterable[str]) -> VariantFiles:
    """Return a variant with the forms that its bundles in `folder` have in other precisions.

    Raises CoopexportError when a manifest is malformed.
    """
    layers = [WHOLE, *(split.layer for split in files.splits)]
    forms = tuple(
        read_precision(folder, layer, precision)
        for precision in precisions
        for layer in layers
        if (folder / precision_file_name(layer, precision)).is_file()
    )
    return replace(files, forms=forms)


def list_candidates(
    variants: Iterable[VariantFiles], sources: Sources, reference: float, wire_bytes: WireBytes = payload_alone
) -> list[Candidate]:  # fmt: skip
    """Return all candidates of all variants, float32 first, for batches of the sources' size.

    `reference`: the metric that losses are counted from. `wire_bytes`: counts what crosses beside the payload; a batch
    is one message, with the payloads of all its images, and one reply. A candidate whose latency is missing or was
    measured on other graphs, or whose metric was measured on other data, has a reason. What the device has to hold and
    to spend is known only where it was measured there, in the candidate's precision and batch.
    """
    candidates: list[Candidate] = []
    batch = sources.batch
    for variant in variants:
        found = _unsplit(variant.whole, sources, reference)
        found += [_split(split, variant.whole, sources, reference) for split in variant.splits]
        splits = {split.layer: split for split in variant.splits}
        for form in variant.forms:
            if form.layer == WHOLE:
                found += _unsplit(variant.whole, sources, reference, form)
            else:
                found.append(_split(splits[form.layer], variant.whole, sources, reference, form))
        family = _FAMILIES.get(variant.step, "")
        for item in found:
            payload_bytes = batch * item.payload_bytes
            crossing = wire_bytes(payload_bytes, batch * variant.reply_bytes) if item.layer != OUTPUT else 0.0
            candidates.append(
                replace(item, family=family, payload_bytes=payload_bytes, wire_bytes=crossing, batch=batch)
            )
    return candidates


def _unsplit(
    whole: WholeFile, sources: Sources, reference: float, form: PrecisionFile | None = None
) -> list[Candidate]:  # fmt: skip
    """Return everything on the edge, for each way to send the image, and everything on the device.

    `form`: the network in another precision. Its metric is that of the raw input; of coded ones nobody measured it.
    """
    found = []
    network = whole.model if form is None else form.roles[WHOLE].file
    precision = FLOAT32 if form is None else form.precision
    outdated = "" if form is None else _converted_before(form, whole)
    hashes = {WHOLE: network.sha256, "": images_sha256(whole)}
    for coding, item in whole.inputs.items():
        if form is not None and coding != "raw":
            continue
        metric = item.metric if form is None else form.metric
        # Each candidate asks for its own parts, so that what another lacks is not held against it.
        parts = PartTimes(sources, whole.variant, WHOLE, hashes, precision)
        device = sum_of(sources, parts.device("encode", coding))
        preprocess = parts.edge("preprocess", RESIZED if is_resized(coding) else "")
        edge = sum_of(sources, parts.edge("decode", coding), preprocess, parts.edge(WHOLE))
        label = coding if item.quality is None else f"{coding} q{item.quality}"
        loss = 100.0 * (reference - metric.value)
        found.append(
            Candidate(
                whole.variant, INPUT, label, item.payload_bytes.mean, device.ms, edge.ms, metric.value, loss,
                outdated or parts.reason(), device_origin=device.origin, edge_origin=edge.origin,
                note=_notes(device, edge), precision=precision,
                device_memory_bytes=0.0,  # the device loads no engine
                device_mj=parts.device_mj("encode", coding),
            )
        )  # fmt: skip
    metric = whole.metric if form is None else form.metric
    parts = PartTimes(sources, whole.variant, WHOLE, hashes, precision)
    device = sum_of(sources, parts.device("preprocess"), parts.device(WHOLE))
    loss = 100.0 * (reference - metric.value)
    found.append(
        Candidate(
            whole.variant, OUTPUT, "nothing", 0.0, device.ms, 0.0, metric.value, loss, outdated or parts.reason(),
            device_origin=device.origin, note=device.note, precision=precision,
            device_memory_bytes=parts.device_memory_bytes(WHOLE),
            device_mj=sum_mj(parts.device_mj("preprocess"), parts.device_mj(WHOLE)),
        )
    )  # fmt: skip
    return found


def _split(
    split: SplitFile, whole: WholeFile, sources: Sources, reference: float, form: PrecisionFile | None = None
) -> Candidate:  # fmt: skip
    """Return a cut; `form`: both halves in another precision, whose payload is taken to be the bundle's."""
    head, tail, metric, precision, outdated = split.head, split.tail, split.metric, FLOAT32, _outdated(split, whole)
    if form is not None:
        head, tail = form.roles["head"].file, form.roles["tail"].file
        metric, precision, outdated = form.metric, form.precision, outdated or _converted_before(form, split)
    prepare = PartTimes(sources, split.variant, WHOLE, {"": images_sha256(whole)}, precision)
    hashes = {"head": head.sha256, "encode": head.sha256, "": tail.sha256}
    parts = PartTimes(sources, split.variant, split.layer, hashes, precision)
    device = sum_of(
        sources, prepare.device("preprocess"), parts.device("head"), parts.device("encode", split.codec)
    )  # fmt: skip
    edge = sum_of(sources, parts.edge("decode", split.codec), parts.edge("tail"))
    energy_mj = sum_mj(
        prepare.device_mj("preprocess"), parts.device_mj("head"), parts.device_mj("encode", split.codec)
    )  # fmt: skip
    reason = outdated or parts.reason() or prepare.reason()
    return Candidate(
        split.variant, split.layer, split.coding, split.payload_bytes.mean, device.ms, edge.ms, metric.value,
        100.0 * (reference - metric.value), reason, device_origin=device.origin, edge_origin=edge.origin,
        note=_notes(device, edge), precision=precision, device_memory_bytes=parts.device_memory_bytes("head"),
        device_mj=energy_mj,
    )  # fmt: skip


def _notes(*sides: SideTime) -> str:
    return "; ".join(side.note for side in sides if side.note)


def _outdated(split: SplitFile, whole: WholeFile) -> str:
    """Return why a bundle does not belong to the variant's present whole network, or nothing."""
    now = {name: value for name, value in whole.made_from.items() if name not in ("select settings", FORMAT)}
    changed = changed_inputs(split.made_from, now)
    named = ", ".join(changed)
    return f"split before {named} changed; run: coopexport split --layer {split.layer}" if changed else ""


def _converted_before(form: PrecisionFile, bundle: SplitFile | WholeFile) -> str:
    """Return why a form in another precision does not belong to its bundle any more, or nothing."""
    changed = ", ".join(changed_inputs(form.made_from, precision_inputs(bundle)))
    command = conversion_command(form.layer, form.precision)
    return f"converted to {form.precision} before {changed} changed; run: {command}" if changed else ""
