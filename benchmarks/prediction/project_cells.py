"""The cells of a project, from the graphs of its bundles, and predictions for those that a target has no time of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import onnx

from benchmarks.prediction.cumulative import LayerTime, MeasuredHead, cumulative_times
from benchmarks.prediction.kernels import kernels_of
from benchmarks.prediction.predict import (
    Cell,
    CellKey,
    MeasuredRow,
    Prediction,
    Predictions,
    key_of,
    measured_cells,
    predict,
    times_of,
)
from benchmarks.prediction.regression import fit
from engines.building.build_items import WHOLE, BuildItem, item_of_whole, items_of_layer
from exporter.bundles.bundle import read_split, read_whole, split_layers, verify_file
from exporter.layers.names import display_name
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from exporter.project.settings import Project
from exporter.variants.layer_graphs import read_layer_graph, variants
from jetson.errors import InputError, StaleError

_Row = TypeVar("_Row", bound="TargetRow")
_PARTS = ("head", "tail", WHOLE)


class TargetRow(MeasuredRow, Protocol):
    """A row of the latency table that says which target and which graph it was measured on."""

    @property
    def target(self) -> str: ...
    @property
    def source_sha256(self) -> str | None: ...


def project_cells(project: Project, precision: str = "fp32", batch: int = 1) -> tuple[Cell, ...]:
    """Return the heads, tails and whole networks of all variants, as their bundles lie on the disk.

    A bundle that has no form in `precision` is left out. Raises CoopexportError when a graph is not the recorded one,
    or the size of a feature in it is not known.
    """
    folders = (project.variant_folder(variant) for variant in variants(project))
    return tuple(
        cell for folder in folders if (folder / "whole.json").is_file() for cell in _cells_in(folder, precision, batch)
    )


def predicted_rows(project: Project, rows: Iterable[TargetRow], target: str) -> Predictions:
    """Predict the heads, tails and whole networks of a project that have no time on `target`.

    `rows`: of the latency table, of any targets. Those of the target whose graph is the bundle's of today are what
    is predicted from; those of older graphs count as not measured. Each precision and batch that the target has rows
    of is predicted by itself. Raises CoopexportError as `project_cells` and `predict`.
    """
    own = [row for row in rows if row.target == target and row.part in _PARTS]
    made: list[Prediction] = []
    refused: dict[CellKey, str] = {}
    for precision, batch in dict.fromkeys((row.precision, row.batch) for row in own):
        cells = project_cells(project, precision, batch)
        found = predict(rows_of_today(own, cells), cells)
        made += found.made
        refused |= found.refused
    return Predictions(tuple(made), refused)


def layer_times(
    project: Project, variant: str, rows: Iterable[TargetRow], target: str, precision: str = "fp32", batch: int = 1
) -> tuple[LayerTime, ...]:
    """Return the time up to each layer of a variant's whole network on `target`, in the order in which it runs them.

    `rows`: as for `predicted_rows`. A layer whose tensor the graph in `precision` does not have is left out. Raises
    CoopexportError when the variant has no bundles, too little was measured to predict what lies between, or a layer
    has a kind of kernel that no measured cell has.
    """
    cells = project_cells(project, precision, batch)
    own = [row for row in rows if row.target == target and row.part in _PARTS]
    times_ms = times_of(rows_of_today(own, cells))
    model = fit(measured_cells(cells, times_ms))
    of_variant = {cell.key: cell for cell in cells if cell.key.variant == variant}
    whole_key = CellKey(variant, WHOLE, WHOLE, precision, batch)
    if whole_key not in of_variant:
        raise StaleError(f"variant {variant} is not split", fix="run: coopexport split --all")
    whole = of_variant[whole_key]
    if missing := model.missing(whole.kernels):
        raise InputError(
            f"the layers of {variant} cannot be timed: no measured cell has {' or '.join(missing)}",
            fix="measure the whole network: coopexport bench",
        )
    folder = project.variant_folder(variant)
    layers = read_layer_graph(folder, variant).layers
    makers = index_graph(_load(item_of_whole(folder, precision))).makers
    ends = {layer.name: makers[layer.tensor] for layer in layers if layer.tensor in makers}
    heads = {
        layer.name: MeasuredHead(of_variant[key].kernels, times_ms[key])
        for layer in layers
        if (key := CellKey(variant, display_name(layers, layer), "head", precision, batch)) in of_variant
        and key in times_ms
    }
    return cumulative_times(
        [layer for layer in layers if layer.name in ends], ends, whole.kernels, model, heads, times_ms.get(whole_key)
    )


def rows_of_today(rows: Iterable[_Row], cells: Iterable[Cell]) -> list[_Row]:
    """Return the rows that were measured on the graphs of `cells`."""
    graphs = {cell.key: cell.source_sha256 for cell in cells}
    return [row for row in rows if (sha256 := graphs.get(key_of(row))) is not None and sha256 == row.source_sha256]


def _cells_in(folder: Path, precision: str, batch: int) -> list[Cell]:
    """Return the cells of one variant. Sizes of tensors are inferred once, for all parts of the same graph."""
    graph = read_whole(folder).made_from.get("graph")
    cells = []
    types: Mapping[str, TensorType] = {}
    for whole in _in_precision(lambda: [item_of_whole(folder, precision)]):
        model = _load(whole)
        types = tensor_types(model)
        cells.append(_cell(whole, model, batch, types))
    for layer in split_layers(folder):
        is_same = graph is not None and read_split(folder, layer).made_from.get("graph") == graph
        cells += [
            _cell(item, _load(item), batch, types if is_same else {})
            for item in _in_precision(partial(items_of_layer, folder, layer, precision))
        ]
    return cells


def _in_precision(items: Callable[[], list[BuildItem]]) -> list[BuildItem]:
    """Return what `items` does, nothing where there is no form in the precision."""
    try:
        return items()
    except StaleError:
        return []


def _cell(item: BuildItem, model: onnx.ModelProto, batch: int, types: Mapping[str, TensorType]) -> Cell:
    key = CellKey(item.variant, item.layer, item.role, item.precision, batch)
    return Cell(key, kernels_of(model, batch, types), item.graph.sha256)


def _load(item: BuildItem) -> onnx.ModelProto:
    return onnx.load(str(verify_file(item.folder, item.graph)), load_external_data=False)
