"""Split the variants of a project: choose cuts, calibrate, cut, encode, check parity, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from calibration.codecs.search_file import search_inputs, with_recommendation
from calibration.splitting.choose_cuts import CutSelection, check_where, choose_cuts
from calibration.splitting.context import (
    SplitContext,
    calibrated_cut_tensors,
    calibrated_from,
    image_counter,
    open_context,
    open_data,
)
from calibration.splitting.split_variant import LossRefusedError, check_loss, finished_split, write_split
from calibration.splitting.whole_variant import finished_whole, write_whole
from exporter.bundles.bundle import SplitFile, WholeFile
from exporter.cutting.split import CutPosition, CutTensor
from exporter.encoding.specification import ClipMethod, Granularity
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.progress import OnProgress, counter, no_progress
from exporter.project.overrides import overridden
from exporter.project.settings import Project
from exporter.variants.choice import naming
from jetson.errors import InputError, ParityError, StaleError, UnsupportedError

# The settings of a cut (those of the context) and where it is.
Cut: TypeAlias = tuple[SplitContext, Layer]
# What `coopexport search` chooses.
_SEARCHED = ("encoding", "bits", "clip", "percentile", "granularity", "packing", "codec")


@dataclass(frozen=True)
class SplitRequest:
    """Where to cut, and how to encode what crosses.

    `variants`: names or patterns, none for all. `layers`: to cut after, by any name that `coopexport layers` lists; or
    `all_layers`: the project's candidates, or every clean cut. `recommended`: encode each cut as `search_project`
    recommends. What is None is as `[split]` says: `bits` of a symbol, `percentile` in percent, `maximum_loss_points` of
    the metric; `standalone`: graphs that hold their own weights.
    """

    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    all_layers: bool = False
    recommended: bool = False
    at: CutPosition | None = None
    maximum_tensors: int | None = None
    encoding: Literal["affine", "float16", "float32"] | None = None
    bits: int | None = None
    clip: ClipMethod | None = None
    percentile: float | None = None
    granularity: Granularity | None = None
    packing: Literal["none", "bytes", "words"] | None = None
    codec: Literal["raw", "zlib-huffman", "rans", "rans-context"] | None = None
    maximum_loss_points: float | None = None
    standalone: bool | None = None


@dataclass(frozen=True)
class VariantSplit:
    """What was written for variant `number` of `count`.

    `paths`: of the manifests, `whole.json` first. `left_out`: why layers of `all_layers` cannot be cut; `refused`: why
    cuts were not made although the request asks for them.
    """

    variant: str
    number: int
    count: int
    whole: WholeFile
    bundles: tuple[SplitFile, ...]
    paths: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitResult:
    """What was written; `left_out`: how many variants are not for any of the layers."""

    variants: tuple[VariantSplit, ...]
    left_out: int

    @property
    def bundles(self) -> tuple[SplitFile, ...]:
        """Return the manifests of all cuts, variant by variant."""
        return tuple(bundle for variant in self.variants for bundle in variant.bundles)

    @property
    def refused(self) -> tuple[str, ...]:
        """Return why cuts were not made although the request asks for them; all others are there."""
        return tuple(reason for variant in self.variants for reason in variant.refused)


def split_project(
    project: Project,
    request: SplitRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[VariantSplit], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
) -> SplitResult:
    """Cut the variants of a project and write a bundle for each cut, and `whole.json` for each variant.

    `on_result` gets each variant as it is done; `on_left_out`, before the first, how many variants are not for any of
    the layers. Raises CoopexportError when a setting is out of range, a variant or a layer does not exist, data are
    missing, a cut cannot be made, or its encoding costs too much of the metric; what was written before stays. Too
    great a loss at a cut of one of several variants does not stop the others: `refused` of the result names it.
    """
    check_where(request.layers, request.all_layers)
    settings = overridden(project.settings.split, vars(request))
    contradiction = [name for name in _SEARCHED if getattr(request, name) is not None]
    if request.recommended and contradiction:
        raise InputError(f"--{contradiction[0]} and --recommended were both given", fix="use one of them")
    chosen = choose_cuts(project, request.variants, request.layers, request.all_layers, settings.at)
    if on_left_out is not None:
        on_left_out(chosen.left_out)
    data, count = open_data(project), len(chosen.selections)
    done: list[VariantSplit] = []
    for number, selection in enumerate(chosen.selections, start=1):
        with naming(selection.graph.variant):
            context = open_context(project, settings, selection.graph, data)
            done.append(_split_variant(context, selection, request, (number, count), on_progress))
        if on_result is not None:
            on_result(done[-1])
    return SplitResult(tuple(done), chosen.left_out)


def _split_variant(
    context: SplitContext,
    selection: CutSelection,
    request: SplitRequest,
    place: tuple[int, int],
    on_progress: OnProgress,
) -> VariantSplit:
    """Write the bundles of one variant; `place`: its number, and of how many.

    A layer of `all_layers` that cannot be cut is left out, unless nothing of one of several variants is left. The loss
    of accuracy stops the only variant at once, and leaves the others of several to be split.
    """
    (number, count), every = place, request.all_layers
    where = f"{selection.graph.variant} ({number} of {count})"
    wanted, problems = _encoded(context, selection.layers, request)
    finished = {layer.name: finished_split(own, layer) for own, layer in wanted}
    missing = [(own, layer) for own, layer in wanted if finished[layer.name] is None]
    on_images = image_counter(context, on_progress, f"calibrating {where}")
    calibrated, more = _calibrated(context, missing, request, on_images) if missing else ({}, [])
    problems += more
    cuts = [(own, layer) for own, layer in wanted if finished[layer.name] is not None or layer.name in calibrated]
    on_cut = counter(on_progress, f"splitting {where}", len(cuts) + 1)
    path, whole = finished_whole(context) or write_whole(context)
    paths, bundles = [path], []
    on_cut(1)
    for done, (own, layer) in enumerate(cuts, start=2):
        try:
            bundle = finished[layer.name] or write_split(own, layer, calibrated[layer.name])
            check_loss(own, bundle.layer, bundle.metric)
        except (UnsupportedError, ParityError) as error:
            if not (every or (count > 1 and isinstance(error, LossRefusedError))):
                raise
            problems.append(str(error))
        else:
            paths.append(own.graph.folder / f"{bundle.layer}.split.json")
            bundles.append(bundle)
        on_cut(done)
    is_refused = not every or (count > 1 and not bundles)
    return VariantSplit(
        selection.graph.variant, number, count, whole, tuple(bundles), tuple(paths),
        left_out=() if is_refused else tuple(problems),
        refused=tuple(problems) if is_refused else (),
    )  # fmt: skip


def _encoded(context: SplitContext, layers: Sequence[Layer], request: SplitRequest) -> tuple[list[Cut], list[str]]:
    """Return each layer with the settings that it is encoded with (those of its context), and what stops others.

    With `all_layers` those that nothing was recommended for are left out; otherwise CoopexportError is raised.
    """
    found, problems = [], []
    recommended = request.recommended and context.bottleneck is None  # whose encoding was trained
    for layer in layers:
        try:
            found.append((_with_recommendation(context, layer) if recommended else context, layer))
        except (StaleError, ParityError) as error:
            if not request.all_layers:
                raise
            problems.append(str(error))
    return found, problems


def _calibrated(
    context: SplitContext, cuts: Sequence[Cut], request: SplitRequest, on_images: Callable[[int], None]
) -> tuple[dict[str, tuple[CutTensor, ...]], list[str]]:
    """Return what crosses at each cut, calibrated, by layer, and what stops others.

    Ranges are measured in one pass where all have the same settings. With `all_layers` those that cannot be cut are
    left out; otherwise CoopexportError is raised, as always when data are missing or the network cannot be scored.
    """
    assert context.variant.whole
    if not request.recommended:
        try:
            return calibrated_cut_tensors(context, [layer for _, layer in cuts], on_images), []
        except UnsupportedError:
            if not request.all_layers:
                raise
    found, problems = {}, []
    for own, layer in cuts:
        try:
            found.update(calibrated_cut_tensors(own, [layer], on_images))
        except UnsupportedError as error:
            if not request.all_layers:
                raise
            problems.append(str(error))
    return found, problems


def _with_recommendation(context: SplitContext, layer: Layer) -> SplitContext:
    """Return `context` with the encoding that was recommended for the cut after `layer`."""
    name = display_name(context.graph.layers, layer)
    now = search_inputs(calibrated_from(context), context.made_from["metric"], context.settings)
    return replace(context, settings=with_recommendation(context.settings, context.graph.folder, name, now))
