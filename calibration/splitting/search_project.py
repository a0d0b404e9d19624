"""Search the encodings of a project's cuts: at each the one with the fewest bytes within the bound of accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.codecs.search_file import EncodingFile
from calibration.splitting.choose_cuts import choose_cuts
from calibration.splitting.context import open_context, open_data
from calibration.splitting.search_variant import search_layer, settings_count
from exporter.cutting.split import CutPosition
from exporter.progress import OnProgress, counter, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import Project
from exporter.variants.choice import naming


@dataclass(frozen=True)
class SearchRequest:
    """At which cuts to search.

    `variants`: names or patterns, none for all. `layers`: to cut after, by any name that `coopexport layers` lists;
    `all_layers`, or no layer: the project's candidates, or every clean cut. `maximum_loss_points`: of the metric, that
    the recommended encoding may lose. What is None is as `[split]` says.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    all_layers: bool = False
    at: CutPosition | None = None
    maximum_tensors: int | None = None
    maximum_loss_points: float | None = None


@dataclass(frozen=True)
class SearchedCut:
    """What was found at one cut, and the file that holds it."""

    path: Path
    found: EncodingFile


@dataclass(frozen=True)
class SearchResult:
    """What was found; `left_out`: how many variants are not for any of the layers."""

    cuts: tuple[SearchedCut, ...]
    left_out: int


def search_project(
    project: Project,
    request: SearchRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[SearchedCut], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
) -> SearchResult:
    """Try bits, clip ranges and codecs at each cut and write what was found into `<layer>.encodings.json`.

    `on_result` gets each cut as it is done; `on_left_out`, before the first, how many variants are not for any of the
    layers. Raises CoopexportError as `calibrate_project`, and when there are too few calibration data; what was found
    before stays.
    """
    settings = overridden(project.settings.split, vars(request))
    every = request.all_layers or not request.layers
    chosen = choose_cuts(project, request.variants, request.layers, every, settings.at, with_bottlenecks=False)
    if on_left_out is not None:
        on_left_out(chosen.left_out)
    data, trials, count = open_data(project), settings_count(), len(chosen.selections)
    cuts: list[SearchedCut] = []
    for number, selection in enumerate(chosen.selections, start=1):
        variant, total = selection.graph.variant, trials * len(selection.layers)
        task = f"searching {variant} ({number} of {count})"
        with naming(variant):
            context = open_context(project, settings, selection.graph, data)
        for index, layer in enumerate(selection.layers):
            with naming(variant):
                path, found = search_layer(context, layer, counter(on_progress, task, total, index * trials))
            cuts.append(SearchedCut(path, found))
            if on_result is not None:
                on_result(cuts[-1])
    return SearchResult(tuple(cuts), chosen.left_out)
