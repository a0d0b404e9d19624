"""Time up to each layer of a project's networks, measured or predicted, and the error that such predictions make."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.prediction.cumulative import LayerTime, MeasuredHead, cumulative_errors, cumulative_times
from benchmarks.prediction.predict import Cell, CellKey, measured_cells, times_of
from benchmarks.prediction.project_cells import NETWORK_PARTS, TargetRow, load_graph, project_cells, rows_of_today
from benchmarks.prediction.regression import Fit, Measured, fit
from engines.building.build_items import WHOLE, item_of_whole
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.onnx_graphs.index import index_graph
from exporter.project.settings import Project
from exporter.variants.layer_graphs import read_layer_graph
from jetson.errors import CoopexportError, InputError, StaleError


@dataclass(frozen=True)
class NetworkTimes:
    """Time up to each layer of one network, under the names that its cuts have, and how far predictions are off.

    `errors`: predicted / measured - 1 of the layers that a measured head ends behind, each predicted from the cells of
    all other cuts, between its measured neighbours; empty where too little is left to predict from.
    """

    times: tuple[LayerTime, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class _TargetCells:
    """All cells of a project in one precision and batch, the times that a target has of them, and their fit."""

    cells: tuple[Cell, ...]
    times_ms: Mapping[CellKey, float]
    measured: tuple[Measured, ...]
    model: Fit
    precision: str
    batch: int


@dataclass(frozen=True)
class _Network:
    """One variant's whole network: its layers, the nodes that they end at, its kernels and its measured heads."""

    layers: tuple[Layer, ...]
    names: Mapping[str, str]
    ends: Mapping[str, int]
    whole: Cell
    whole_ms: float | None
    heads: Mapping[str, MeasuredHead]

    def times(self, model: Fit) -> tuple[LayerTime, ...]:
        """Return the time up to each layer."""
        return cumulative_times(self.layers, self.ends, self.whole.kernels, model, self.heads, self.whole_ms)

    def errors(self, model: Fit, model_without: Callable[[str], Fit | None]) -> tuple[float, ...]:
        """Return the errors at measured layers; `model_without`: what is fitted without a cut."""
        return cumulative_errors(
            self.layers, self.ends, self.whole.kernels, model, self.heads, self.whole_ms,
            lambda name: model_without(self.names[name]),
        )  # fmt: skip


def layer_times(
    project: Project, variant: str, rows: Iterable[TargetRow], target: str, precision: str = "fp32", batch: int = 1
) -> tuple[LayerTime, ...]:
    """Return the time up to each layer of a variant's whole network on `target`, in the order in which it runs them.

    `rows`: as for `predicted_rows`. A layer whose tensor the graph in `precision` does not have is left out. Raises
    CoopexportError when the variant has no bundles, too little was measured to predict what lies between, or a layer
    has a kind of kernel that no measured cell has.
    """
    known = _cells_on(project, rows, target, precision, batch)
    return _network(project, variant, known).times(known.model)


def network_times(
    project: Project, variants: Sequence[str], rows: Iterable[TargetRow], target: str
) -> dict[str, NetworkTimes | str]:
    """Return the time up to each layer of some variants on `target`, in float32 for one image, by variant.

    In the place of a variant whose layers cannot be timed, why. `rows`: as for `predicted_rows`.
    """
    try:
        known = _cells_on(project, rows, target, "fp32", 1)
    except CoopexportError as error:
        return dict.fromkeys(variants, str(error))
    model_without = functools.cache(functools.partial(_model_without, known.measured))
    found: dict[str, NetworkTimes | str] = {}
    for variant in variants:
        try:
            network = _network(project, variant, known)
        except CoopexportError as error:
            found[variant] = str(error)
            continue
        times = tuple(replace(item, layer=network.names[item.layer]) for item in network.times(known.model))
        found[variant] = NetworkTimes(times, network.errors(known.model, model_without))
    return found


def _cells_on(
    project: Project, rows: Iterable[TargetRow], target: str, precision: str, batch: int
) -> _TargetCells:  # fmt: skip
    cells = project_cells(project, precision, batch)
    own = [row for row in rows if row.target == target and row.part in NETWORK_PARTS]
    times_ms = times_of(rows_of_today(own, cells))
    measured = tuple(measured_cells(cells, times_ms))
    return _TargetCells(cells, times_ms, measured, fit(measured), precision, batch)


def _network(project: Project, variant: str, known: _TargetCells) -> _Network:
    """Return what is known of a variant's whole network; raises CoopexportError as `layer_times`."""
    of_variant = {cell.key: cell for cell in known.cells if cell.key.variant == variant}
    setting = (known.precision, known.batch)
    whole_key = CellKey(variant, WHOLE, WHOLE, *setting)
    if whole_key not in of_variant:
        raise StaleError(f"variant {variant} is not split", fix="run: coopexport split --all")
    whole = of_variant[whole_key]
    if missing := known.model.missing(whole.kernels):
        raise InputError(
            f"the layers of {variant} cannot be timed: no measured cell has {' or '.join(missing)}",
            fix="measure the whole network: coopexport bench",
        )
    folder = project.variant_folder(variant)
    layers = read_layer_graph(folder, variant).layers
    names = {layer.name: display_name(layers, layer) for layer in layers}
    makers = index_graph(load_graph(item_of_whole(folder, known.precision))).makers
    ends = {layer.name: makers[layer.tensor] for layer in layers if layer.tensor in makers}
    heads = {
        name: MeasuredHead(of_variant[key].kernels, known.times_ms[key])
        for name, short in names.items()
        if (key := CellKey(variant, short, "head", *setting)) in of_variant and key in known.times_ms
    }
    kept = tuple(layer for layer in layers if layer.name in ends)
    return _Network(kept, names, ends, whole, known.times_ms.get(whole_key), heads)


def _model_without(measured: Sequence[Measured], cut: str) -> Fit | None:
    """Return what is fitted to all cells but those of one cut, or None where they are too few."""
    try:
        return fit([cell for cell in measured if cell.cut != cut])
    except InputError:
        return None
