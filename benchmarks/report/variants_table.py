"""All variants side by side: size, bytes at their cuts, metric and its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, prod

from calibration.variants.registry import Registry
from exporter.bundles.bundle import read_split
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name, find_layer
from exporter.project.settings import Project
from exporter.variants.layer_graphs import read_layer_graph
from exporter.variants.record import VariantRecord
from jetson.errors import InputError

_FLOAT_BITS = {"float16": 16, "float32": 32}


@dataclass(frozen=True)
class Feature:
    """What crosses at one cut of a variant, in bytes per sample.

    `symbol_bytes`: its elements in the project's encoding, before entropy coding; `wire_bytes`: the mean message, None
    where the cut has not been split.
    """

    layer: str
    symbol_bytes: int
    wire_bytes: float | None


@dataclass(frozen=True)
class VariantRow:
    """A variant as listed; `features`: at its own cuts, or, where it has none, at the layers that others are cut at.

    `outdated`: its record does not hold, and no other could be made.
    """

    record: VariantRecord
    features: tuple[Feature, ...]
    outdated: bool

    @property
    def own_features(self) -> tuple[Feature, ...]:
        """Return the features at the layers that the variant was made for: several where the same channels cross."""
        return () if self.record.cuts is None else self.features


def variant_rows(project: Project, registry: Registry) -> list[VariantRow]:
    """Return a row for every variant, in the project's order; raises CoopexportError when a file is malformed."""
    split = project.settings.split
    bits = split.bits if split.encoding == "affine" else _FLOAT_BITS[split.encoding]
    wanted = list(dict.fromkeys(layer for record in _pruned(registry) for layer in record.cuts or ()))
    return [
        VariantRow(
            record,
            tuple(_features(project, record, record.cuts if record.cuts is not None else wanted, _bits(record, bits))),
            record.variant in registry.outdated,
        )
        for record in registry.records
    ]


def _pruned(registry: Registry) -> Iterator[VariantRecord]:
    """Yield the variants whose cuts others have, too."""
    return (record for record in registry.records if record.step != "bottleneck")


def _bits(record: VariantRecord, bits: int) -> int:
    """Return the bits of a symbol: a bottleneck has its own."""
    return int(record.method["bits"]) if record.step == "bottleneck" else bits


def _features(project: Project, record: VariantRecord, cuts: Sequence[str], bits: int) -> list[Feature]:
    if not cuts:
        return []
    layers = read_layer_graph(project.variant_folder(record.variant), record.variant).layers
    found = {layer.name: layer for layer in (find_layer(layers, name) for name in cuts)}
    return [
        Feature(
            display_name(layers, layer),
            -(-bits * prod(layer.shape) // 8),
            _wire_bytes(project, record, layers, layer),
        )
        for layer in found.values()
    ]


def _wire_bytes(project: Project, record: VariantRecord, layers: tuple[Layer, ...], layer: Layer) -> float | None:
    """Return the mean message of a split bundle of this very network, None where there is none."""
    folder, name = project.variant_folder(record.variant), display_name(layers, layer)
    if not (folder / f"{name}.split.json").is_file():
        return None
    bundle = read_split(folder, name)
    return bundle.payload_bytes.mean if bundle.made_from.get("graph") == record.made_from.get("graph", "") else None


def sorted_rows(rows: Sequence[VariantRow], by: str | None) -> list[VariantRow]:
    """Return rows by `macs` or `bytes` (fewest first, those without last) or `metric` (best first); None: as it is.

    Raises CoopexportError for another order.
    """
    if by is None:
        return list(rows)
    if by not in _ORDERS:
        raise InputError(f'variants cannot be ordered by "{by}"', fix=f"choose one of {', '.join(_ORDERS)}")
    return sorted(rows, key=_ORDERS[by])


_ORDERS: dict[str, Callable[[VariantRow], float]] = {
    "macs": lambda row: row.record.macs,
    "bytes": lambda row: min((item.symbol_bytes for item in row.own_features), default=inf),
    "metric": lambda row: -row.record.metric.value,
}
