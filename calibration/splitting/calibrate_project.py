"""Calibrate the variants of a project: the clip range of the feature at each cut, from calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.ranges.calibration_file import FILE_NAME
from calibration.splitting.choose_cuts import choose_cuts
from calibration.splitting.context import calibrated_cut_tensors, image_counter, open_context, open_data
from exporter.cutting.split import CutPosition
from exporter.encoding.specification import ClipMethod, ClipRange, Granularity
from exporter.layers.names import display_name
from exporter.progress import OnProgress, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import Project
from exporter.variants.choice import naming


@dataclass(frozen=True)
class CalibrateRequest:
    """Which cuts to calibrate, and how.

    `variants`: names or patterns, none for all. `layers`: to cut after, by any name that `coopexport layers` lists;
    `all_layers`, or no layer: the project's candidates, or every clean cut. What is None is as `[split]` says:
    `percentile` in percent, `bits` of a symbol.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    all_layers: bool = False
    at: CutPosition | None = None
    maximum_tensors: int | None = None
    bits: int | None = None
    clip: ClipMethod | None = None
    percentile: float | None = None
    granularity: Granularity | None = None


@dataclass(frozen=True)
class LayerRange:
    """The clip range of one tensor that crosses after `layer`."""

    layer: str
    clip: ClipRange


@dataclass(frozen=True)
class CalibratedVariant:
    """What was found for variant `number` of `count`; `path`: of the file, None where no range is needed."""

    variant: str
    number: int
    count: int
    ranges: tuple[LayerRange, ...]
    path: Path | None


@dataclass(frozen=True)
class CalibrateResult:
    """What was found; `left_out`: how many variants are not for any of the layers."""

    variants: tuple[CalibratedVariant, ...]
    left_out: int


def calibrate_project(
    project: Project,
    request: CalibrateRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[CalibratedVariant], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
) -> CalibrateResult:
    """Find the clip ranges of a project's variants and write them into each one's `calibration.json`.

    `on_result` gets each variant as it is done; `on_left_out`, before the first, how many are not for any of the
    layers. Raises CoopexportError when a setting is out of range, a variant or a layer does not exist, data are missing
    or a cut cannot be made; what was calibrated before stays.
    """
    settings = overridden(project.settings.split, vars(request))
    every = request.all_layers or not request.layers
    chosen = choose_cuts(project, request.variants, request.layers, every, settings.at, with_bottlenecks=False)
    if on_left_out is not None:
        on_left_out(chosen.left_out)
    data, count = open_data(project), len(chosen.selections)
    done: list[CalibratedVariant] = []
    for number, selection in enumerate(chosen.selections, start=1):
        graph, layers = selection.graph, selection.layers
        task = f"calibrating {graph.variant} ({number} of {count})"
        with naming(graph.variant):
            context = open_context(project, settings, graph, data)
            found = calibrated_cut_tensors(context, layers, image_counter(context, on_progress, task))
        ranges = tuple(
            LayerRange(display_name(graph.layers, layer), item.encoding.clip)
            for layer in layers
            for item in found[layer.name]
            if item.encoding.clip is not None
        )
        done.append(
            CalibratedVariant(graph.variant, number, count, ranges, graph.folder / FILE_NAME if ranges else None)
        )
        if on_result is not None:
            on_result(done[-1])
    return CalibrateResult(tuple(done), chosen.left_out)
