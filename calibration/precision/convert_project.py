"""Convert what a project has split to float16 and int8, or measure which of its layers suffer from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from calibration.precision.conversion_job import PrecisionOptions, PrecisionRefusedError, open_conversion_job
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.network_under_test import WHOLE
from calibration.precision.prepare import prepare_precision
from calibration.precision.sensitivity import LayerSensitivity, sensitivity
from calibration.splitting.context import open_context, open_data
from exporter.bundles.bundle import read_split, split_layers
from exporter.bundles.precision_file import PRECISIONS, Precision, PrecisionFile
from exporter.layers.names import display_name, find_layer
from exporter.progress import OnProgress, counter, no_progress
from exporter.project.settings import Project
from exporter.variants.choice import ChosenVariant, chosen_variants, naming
from exporter.variants.layer_graphs import LayerGraph, layer_graph
from jetson.errors import InputError


@dataclass(frozen=True)
class ConvertRequest:
    """Which networks to convert, and how.

    `variants`: names or patterns, none for all. `layers`: that were split at; `all_layers`: every one, and the network
    that is not cut; `whole`: that network. `ranges`: of int8 activations. `maximum_loss_points`: of the metric, against
    float32 on the same images; 0.1 (fp16) or 1 (int8) without it. `float32_layers`: that stay so in any case; `mixed`:
    let the most sensitive ones stay so as well; `fallback`: beside int8, in what those run.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    all_layers: bool = False
    whole: bool = False
    precisions: tuple[Precision, ...] = PRECISIONS
    ranges: RangeSettings = field(default_factory=RangeSettings)
    maximum_loss_points: float | None = None
    float32_layers: tuple[str, ...] = ()
    mixed: bool = True
    fallback: Literal["fp32", "fp16"] = "fp32"


@dataclass(frozen=True)
class ConvertResult:
    """What was written: manifests and their paths.

    `refused`: why networks were not converted, which cost more of the metric than the request allows. `left_out`: how
    many variants were not split at any of the layers.
    """

    records: tuple[PrecisionFile, ...]
    paths: tuple[Path, ...]
    refused: tuple[str, ...]
    left_out: int


@dataclass(frozen=True)
class NetworkSensitivity:
    """What each layer of one network costs alone, the worst first, on `samples` calibration images.

    `layer`: where the network is cut, or "whole".
    """

    variant: str
    layer: str
    precision: Precision
    samples: int
    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True)
class SensitivityResult:
    """What was measured; `left_out`: how many variants were not split at any of the layers."""

    networks: tuple[NetworkSensitivity, ...]
    left_out: int


@dataclass(frozen=True)
class NetworkSelection:
    """A variant and what of it to convert: layers that were split at, and "whole" for the network itself."""

    graph: LayerGraph
    layers: tuple[str, ...]


def check_networks(layers: Sequence[str], all_layers: bool, whole: bool) -> None:
    """Raise InputError unless any network is asked for."""
    if not (layers or all_layers or whole):
        raise InputError("say what to convert: --layer NAME (repeatable), --whole or --all")


def convert_project(
    project: Project,
    request: ConvertRequest,
    on_progress: OnProgress = no_progress,
    on_left_out: Callable[[int], None] | None = None,
) -> ConvertResult:
    """Write every network of a request in every precision; those that lose too much are in `refused`, the others stay.

    `on_left_out` gets, before the first, how many variants were not split at any of the layers. Raises CoopexportError
    when a variant, a bundle or a layer does not exist, a bundle is stale or damaged, or data are missing; what was
    written before stays.
    """
    wanted = _options(request)
    selections, left_out = choose_networks(project, request)
    if on_left_out is not None:
        on_left_out(left_out)
    data = open_data(project)
    paths: list[Path] = []
    records: list[PrecisionFile] = []
    refused: list[str] = []
    for selection in selections:
        tasks = [(layer, options) for layer in selection.layers for options in wanted]
        on_task = counter(on_progress, f"converting {selection.graph.variant}", len(tasks))
        with naming(selection.graph.variant):
            context = open_context(project, project.settings.split, selection.graph, data)
            for done, (layer, options) in enumerate(tasks, start=1):
                try:
                    path, record = prepare_precision(context, layer, options)
                except PrecisionRefusedError as error:
                    refused.append(str(error))
                else:
                    paths.append(path)
                    records.append(record)
                on_task(done)
    return ConvertResult(tuple(records), tuple(paths), tuple(refused), left_out)


def measure_sensitivity(
    project: Project,
    request: ConvertRequest,
    samples: int | None = None,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[NetworkSensitivity], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
) -> SensitivityResult:
    """Measure what each layer of the networks of a request costs when it alone is converted; nothing is written.

    `samples`: how many calibration images to measure on, at least 2; None: all. `on_result` gets each network and
    precision as it is done. Arguments and errors otherwise as of `convert_project`.
    """
    if samples is not None and samples < 2:
        raise InputError(f"{samples} calibration images are too few to compare layers", fix="give 2 or more")
    wanted = _options(request)
    selections, left_out = choose_networks(project, request)
    if on_left_out is not None:
        on_left_out(left_out)
    data = open_data(project)
    networks: list[NetworkSensitivity] = []
    for selection in selections:
        variant = selection.graph.variant
        with naming(variant):
            context = open_context(project, project.settings.split, selection.graph, data)
        for layer, options in ((layer, options) for layer in selection.layers for options in wanted):
            with naming(variant):
                opened = open_conversion_job(context, layer, options)
                total = sum(len(set(conversion.layers.values())) for conversion in opened.conversions)
                on_layer = counter(on_progress, f"{options.precision} of {variant}, {layer}", total)
                evaluator = opened.evaluator if samples is None else opened.evaluator.first(samples)
                found = sensitivity(evaluator, opened.conversions, on_layer)
            networks.append(NetworkSensitivity(variant, layer, options.precision, len(evaluator.labels), found))
            if on_result is not None:
                on_result(networks[-1])
    return SensitivityResult(tuple(networks), left_out)


def choose_networks(project: Project, request: ConvertRequest) -> tuple[list[NetworkSelection], int]:
    """Return what to convert, and how many variants are left out since they were not split at any of the layers.

    Raises CoopexportError when a request names no network, a layer does not exist, or was not split at anywhere.
    """
    check_networks(request.layers, request.all_layers, request.whole)
    found = []
    for choice in chosen_variants(project, request.variants):
        with naming(choice.name):
            graph = layer_graph(project, choice.name)
            found.append(NetworkSelection(graph, _networks(graph, request, choice)))
    selections = [item for item in found if item.layers]
    if not selections:
        read_split(found[0].graph.folder, request.layers[0] if request.layers else "NAME")  # says how to make it
    return selections, len(found) - len(selections)


def _networks(graph: LayerGraph, request: ConvertRequest, choice: ChosenVariant) -> tuple[str, ...]:
    """Return the layers of a request that a variant was split at, in the network's order, then "whole"."""
    names = [display_name(graph.layers, find_layer(graph.layers, name)) for name in request.layers]
    there = split_layers(graph.folder)
    order = {display_name(graph.layers, layer): number for number, layer in enumerate(graph.layers)}
    layers = [name for name in dict.fromkeys(names) if name in there]
    if choice.named and len(layers) < len(set(names)):
        read_split(graph.folder, next(name for name in names if name not in there))  # says how to make it
    layers += [name for name in there if request.all_layers and name not in layers]
    layers.sort(key=lambda name: order.get(name, len(order)))
    is_whole = request.whole or (request.all_layers and (graph.folder / "whole.json").is_file())
    return (*layers, *([WHOLE] if is_whole else []))


def _options(request: ConvertRequest) -> list[PrecisionOptions]:
    """Return how to convert to each of the precisions; raises CoopexportError for a value that makes no sense."""
    unknown = [name for name in request.precisions if name not in PRECISIONS]
    if unknown:
        raise InputError(f'precision "{unknown[0]}" is unknown', fix=f"use one of {', '.join(PRECISIONS)}")
    if request.fallback not in ("fp32", "fp16"):
        raise InputError(f'fallback "{request.fallback}" is unknown', fix="use fp32 or fp16")
    if request.maximum_loss_points is not None and not request.maximum_loss_points >= 0:
        raise InputError(f"maximum_loss_points is {request.maximum_loss_points:g}", fix="give 0 or more")
    return [
        PrecisionOptions(
            name,
            request.maximum_loss_points,
            request.ranges,
            request.float32_layers,
            request.mixed,
            request.fallback if name == "int8" else "fp32",
        )
        for name in dict.fromkeys(request.precisions)
    ]
