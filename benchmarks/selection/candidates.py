"""Candidates for the selector, out of a project's bundles and its latency table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.latency.table import Latency
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate
from engines.building.build_items import WHOLE
from exporter.bundles.bundle import SplitFile, WholeFile, images_sha256, read_split, read_whole, split_layers
from exporter.project.freshness import FORMAT, changed_inputs

# Target, variant, layer, part, codec: what names a row of the latency table.
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class VariantFiles:
    """What a variant has on the disk: its whole network and its split bundles, in the network's order.

    `step`: which of pruning it comes from, as in its record; empty where that is not known.
    """

    variant: str
    whole: WholeFile
    splits: tuple[SplitFile, ...]
    step: str = ""


# Variants of these steps are compared as one; step 1 trained on is still step 1.
_FAMILIES = {"step1": "step 1", "control": "step 1", "step2": "step 2", "bottleneck": "bottlenecks"}


def read_variant(folder: Path, layer_order: Iterable[str], step: str = "") -> VariantFiles:
    """Read a variant's manifests; `layer_order`: short layer names as the network runs them."""
    order = {name: index for index, name in enumerate(layer_order)}
    names = sorted(split_layers(folder), key=lambda name: order.get(name, len(order)))
    whole = read_whole(folder)
    return VariantFiles(whole.variant, whole, tuple(read_split(folder, name) for name in names), step)


def list_candidates(
    variants: Iterable[VariantFiles],
    rows: Iterable[Latency],
    device_slowdown: float,
    reference: float,
    failed: Mapping[Key, str] | None = None,
) -> list[Candidate]:
    """Return all candidates of all variants.

    `rows`: of the edge's target; the device is taken to be `device_slowdown` times slower. `reference`: the metric that
    losses are counted from. `failed`: why parts have no row, where they were tried. A candidate whose latency is
    missing or was measured on other graphs, or whose metric was measured on other data, has a reason.
    """
    table = _Table(
        {(row.variant, row.layer, row.part, row.codec): row for row in rows},
        {key[1:]: reason for key, reason in (failed or {}).items()},
    )
    candidates: list[Candidate] = []
    for variant in variants:
        found = _unsplit(variant.whole, table, device_slowdown, reference)
        found += [_split(split, variant.whole, table, device_slowdown, reference) for split in variant.splits]
        candidates += [replace(item, family=_FAMILIES.get(variant.step, "")) for item in found]
    return candidates


@dataclass(frozen=True)
class _Table:
    """Rows, and why others are missing, by variant, layer, part and codec."""

    rows: dict[tuple[str, str, str, str], Latency]
    failed: dict[tuple[str, str, str, str], str]


def _unsplit(whole: WholeFile, table: _Table, device_slowdown: float, reference: float) -> list[Candidate]:
    """Return everything on the edge (raw and JPEG input) and everything on the device."""
    found = []
    hashes = {WHOLE: whole.model.sha256, "": images_sha256(whole)}
    for coding, item in whole.inputs.items():
        # Each candidate asks for its own parts, so that what another lacks is not held against it.
        parts = _Parts(table, whole.variant, WHOLE, hashes)
        encode, decode = parts.ms("encode", coding), parts.ms("decode", coding)
        preprocess, run = parts.ms("preprocess"), parts.ms(WHOLE)
        label = coding if item.quality is None else f"{coding} q{item.quality}"
        loss = 100.0 * (reference - item.metric.value)
        found.append(
            Candidate(
                whole.variant, INPUT, label, item.payload_bytes.mean, _total(device_slowdown, encode),
                _total(1.0, decode, preprocess, run), item.metric.value, loss, parts.reason(),
            )
        )  # fmt: skip
    parts = _Parts(table, whole.variant, WHOLE, hashes)
    device_ms = _total(device_slowdown, parts.ms("preprocess"), parts.ms(WHOLE))
    loss = 100.0 * (reference - whole.metric.value)
    found.append(
        Candidate(whole.variant, OUTPUT, "nothing", 0.0, device_ms, 0.0, whole.metric.value, loss, parts.reason())
    )
    return found


def _split(split: SplitFile, whole: WholeFile, table: _Table, device_slowdown: float, reference: float) -> Candidate:
    prepare = _Parts(table, split.variant, WHOLE, {"": images_sha256(whole)})
    hashes = {"head": split.head.sha256, "encode": split.head.sha256, "": split.tail.sha256}
    parts = _Parts(table, split.variant, split.layer, hashes)
    device_ms = _total(device_slowdown, prepare.ms("preprocess"), parts.ms("head"), parts.ms("encode", split.codec))
    edge_ms = _total(1.0, parts.ms("decode", split.codec), parts.ms("tail"))
    reason = _outdated(split, whole) or parts.reason() or prepare.reason()
    return Candidate(
        split.variant, split.layer, split.coding, split.payload_bytes.mean, device_ms, edge_ms, split.metric.value,
        100.0 * (reference - split.metric.value), reason,
    )  # fmt: skip


def _outdated(split: SplitFile, whole: WholeFile) -> str:
    """Return why a bundle does not belong to the variant's present whole network, or nothing."""
    now = {name: value for name, value in whole.made_from.items() if name not in ("select settings", FORMAT)}
    changed = changed_inputs(split.made_from, now)
    named = ", ".join(changed)
    return f"split before {named} changed; run: coopexport split --layer {split.layer}" if changed else ""


class _Parts:
    """Medians of one layer's parts; remembers which failed, were missing or stale.

    `hashes`: by part what it has to have been measured on, "" for the parts that are not named.
    """

    def __init__(self, table: _Table, variant: str, layer: str, hashes: Mapping[str, str]) -> None:
        self._table = table
        self._key = (variant, layer)
        self._hashes = hashes
        self._failed: list[str] = []
        self._missing: list[str] = []
        self._stale: list[str] = []

    def ms(self, part: str, codec: str = "") -> float | None:
        """Return a part's median in milliseconds, None when it is missing or of another graph."""
        key = (*self._key, part, codec)
        row = self._table.rows.get(key)
        if row is None and key in self._table.failed:
            self._failed.append(f"{part} failed when it was measured ({self._table.failed[key]})")
            return None
        if row is None:
            self._missing.append(part)
            return None
        if row.source_sha256 != self._hashes.get(part, self._hashes[""]):
            self._stale.append(part)
            return None
        return row.p50_ms

    def reason(self) -> str:
        """Return why a latency made of these parts is not known, or nothing."""
        if self._failed:
            return "; ".join(self._failed)
        if self._missing:
            return f"{', '.join(self._missing)} not measured; run: coopexport bench"
        if self._stale:
            return f"{', '.join(self._stale)} measured on an older graph or other images; run: coopexport bench"
        return ""


def _total(factor: float, *parts_ms: float | None) -> float | None:
    known = [part for part in parts_ms if part is not None]
    return factor * sum(known) if len(known) == len(parts_ms) else None
