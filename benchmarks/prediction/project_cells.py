"""The cells of a project, from the graphs of its bundles, and predictions for those that a target has no time of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import onnx

from benchmarks.prediction.coding import CodingCell, CodingRow, predict_coding
from benchmarks.prediction.kernels import kernels_of
from benchmarks.prediction.predict import (
    Cell,
    CellKey,
    Prediction,
    Predictions,
    key_of,
    predict,
)
from benchmarks.prediction.project_coding import coding_cells
from engines.building.build_items import WHOLE, BuildItem, item_of_whole, items_of_layer
from exporter.bundles.bundle import read_split, read_whole, split_layers, verify_file
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from exporter.project.settings import Project
from exporter.variants.layer_graphs import variants
from jetson.errors import StaleError

_Row = TypeVar("_Row", bound="TargetRow")
NETWORK_PARTS = ("head", "tail", WHOLE)
_CODING_PARTS = ("encode", "decode")


class TargetRow(CodingRow, Protocol):
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


def predicted_rows(
    project: Project, rows: Iterable[TargetRow], target: str, coders: Mapping[str, str] | None = None
) -> Predictions:
    """Predict the heads, tails, whole networks and entropy coding of a project that have no time on `target`.

    `rows`: of the latency table, of any targets. Those of the target whose graph is the bundle's of today are what
    is predicted from; those of older graphs count as not measured. Each precision and batch that the target has rows
    of is predicted by itself. `coders`: as of `predict_coding`. Raises CoopexportError as `project_cells`,
    `coding_cells` and `predict`.
    """
    of_target = [row for row in rows if row.target == target]
    own = [row for row in of_target if row.part in NETWORK_PARTS]
    coded = [row for row in of_target if row.part in _CODING_PARTS and row.layer != WHOLE]
    made: list[Prediction] = []
    refused: dict[CellKey, str] = {}
    for precision, batch in dict.fromkeys((row.precision, row.batch) for row in own):
        cells = project_cells(project, precision, batch)
        coding = coding_cells(project, cells)
        for found in (
            predict(rows_of_today(own, cells), cells),
            predict_coding(rows_of_today(coded, coding), coding, coders),
        ):
            made += found.made
            refused |= found.refused
    return Predictions(tuple(made), refused)


def rows_of_today(rows: Iterable[_Row], cells: Iterable[Cell | CodingCell]) -> list[_Row]:
    """Return the rows that were measured on the graphs of `cells`."""
    graphs = {cell.key: cell.source_sha256 for cell in cells}
    return [row for row in rows if (sha256 := graphs.get(key_of(row))) is not None and sha256 == row.source_sha256]


def _cells_in(folder: Path, precision: str, batch: int) -> list[Cell]:
    """Return the cells of one variant. Sizes of tensors are inferred once, for all parts of the same graph."""
    graph = read_whole(folder).made_from.get("graph")
    cells = []
    types: Mapping[str, TensorType] = {}
    for whole in _in_precision(lambda: [item_of_whole(folder, precision)]):
        model = load_graph(whole)
        types = tensor_types(model)
        cells.append(_cell(whole, model, batch, types))
    for layer in split_layers(folder):
        is_same = graph is not None and read_split(folder, layer).made_from.get("graph") == graph
        cells += [
            _cell(item, load_graph(item), batch, types if is_same else {})
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


def load_graph(item: BuildItem) -> onnx.ModelProto:
    """Return an item's graph without its weights; raises CoopexportError when it is missing or damaged."""
    return onnx.load(str(verify_file(item.folder, item.graph)), load_external_data=False)
