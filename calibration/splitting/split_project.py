"""Split the variants of a project: choose cuts, calibrate, cut, encode, check parity, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from calibration.codecs.search_file import with_recommendation
from calibration.splitting.choose_cuts import CutSelection, check_where, choose_cuts
from calibration.splitting.context import (
    SplitContext,
    calibrated_cut_tensors,
    open_context,
    open_data,
    tensors_that_cross,
)
from calibration.splitting.split_variant import LossRefusedError, write_split
from calibration.splitting.whole_variant import write_whole
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


@dataclass(frozen=True)
class CalibratedCut:
    """Where a variant is cut, what crosses there, and with which settings it is encoded (those of `context`)."""

    context: SplitContext
    layer: Layer
    cut_tensors: tuple[CutTensor, ...]


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
    on_images = counter(on_progress, f"calibrating {where}", len(context.calibration_inputs))
    cuts, problems = _calibrate(context, selection.layers, request, on_images)
    on_cut = counter(on_progress, f"splitting {where}", len(cuts) + 1)
    path, whole = write_whole(context)
    paths, bundles = [path], []
    on_cut(1)
    for done, cut in enumerate(cuts, start=2):
        try:
            path, manifest = write_split(cut.context, cut.layer, cut.cut_tensors)
        except (UnsupportedError, ParityError) as error:
            if not (every or (count > 1 and isinstance(error, LossRefusedError))):
                raise
            problems.append(str(error))
        else:
            paths.append(path)
            bundles.append(manifest)
        on_cut(done)
    is_refused = not every or (count > 1 and not bundles)
    return VariantSplit(
        selection.graph.variant, number, count, whole, tuple(bundles), tuple(paths),
        left_out=() if is_refused else tuple(problems),
        refused=tuple(problems) if is_refused else (),
    )  # fmt: skip


def _calibrate(
    context: SplitContext, layers: Sequence[Layer], request: SplitRequest, on_images: Callable[[int], None]
) -> tuple[list[CalibratedCut], list[str]]:
    """Return what crosses after each layer, and how it is encoded: as `context` says, or as was recommended.

    Ranges are measured in one pass where all layers have the same settings. With `all_layers` those that cannot be cut
    are left out, and the reasons returned; otherwise CoopexportError is raised.
    """
    if not request.recommended:
        try:
            found = calibrated_cut_tensors(context, layers, on_images)
            return [CalibratedCut(context, layer, found[layer.name]) for layer in layers], []
        except UnsupportedError:
            if not request.all_layers:
                raise
    cuts, problems = [], []
    for layer in layers:
        try:
            own = _with_recommendation(context, layer) if request.recommended else context
            cuts.append(CalibratedCut(own, layer, calibrated_cut_tensors(own, [layer], on_images)[layer.name]))
        except (UnsupportedError, StaleError, ParityError) as error:
            if not request.all_layers:
                raise
            problems.append(str(error))
    return cuts, problems


def _with_recommendation(context: SplitContext, layer: Layer) -> SplitContext:
    """Return `context` with the encoding that was recommended for the cut after `layer`."""
    graph, settings = context.graph, context.settings
    name, tensors = display_name(graph.layers, layer), tensors_that_cross(context, layer)
    return replace(context, settings=with_recommendation(settings, graph.folder, name, graph.model_sha256, tensors))
