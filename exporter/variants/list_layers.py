"""The layers of a project's variants, and where each can be cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporter.cutting.layer_table import LayerTable, layer_table
from exporter.project.settings import Project
from exporter.variants.choice import chosen_variants, naming
from exporter.variants.layer_graphs import GRAPH_FILE, layer_graph, trained_records


@dataclass(frozen=True)
class LayersRequest:
    """Of which variants (names or patterns; none: all that differ in their layers), and with cuts of how many tensors.

    `maximum_tensors`: list the cuts where 2 to so many tensors cross, too.
    """

    variants: tuple[str, ...] = ()
    maximum_tensors: int | None = None


@dataclass(frozen=True)
class LayersResult:
    """A table for each variant, and the variants that were left out, because step 1 of pruning has the same layers."""

    tables: tuple[LayerTable, ...]
    left_out: tuple[str, ...]


def list_layers(
    project: Project, request: LayersRequest, on_result: Callable[[LayerTable], None] | None = None
) -> LayersResult:
    """Return every layer of a project's variants, its bytes and MACs, and where the network can be cut.

    Variants whose graph is missing or stale are exported first. `on_result` gets each table as soon as it is there.
    Raises CoopexportError when a variant does not exist, is stale, or cannot be exported.
    """
    chosen = [choice.name for choice in chosen_variants(project, request.variants)]
    alike: set[str] = set()
    if not request.variants:
        alike = {record.variant for record in trained_records(project) if record.step != "step1"}
    tables = []
    for variant in chosen:
        if variant in alike:
            continue
        with naming(variant):
            graph = layer_graph(project, variant)
        table = layer_table(variant, graph.folder / GRAPH_FILE, graph.layers, request.maximum_tensors)
        tables.append(table)
        if on_result is not None:
            on_result(table)
    return LayersResult(tuple(tables), tuple(variant for variant in chosen if variant in alike))
