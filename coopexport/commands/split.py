"""The command `coopexport split`. It sits in this room because a split needs clip ranges and a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, find_work, range_options, split_settings
from coopexport.output import MOST_TABLES, next_step, print_table, progress, wrote

if TYPE_CHECKING:
    from calibration.splitting.context import SplitContext, SplitData
    from coopexport.commands.options import Work
    from exporter.bundles.bundle import SplitFile, WholeFile
    from exporter.cutting.split import Boundary
    from exporter.layers.candidates import Layer
    from exporter.project.settings import Project, SplitSection

# What `coopexport search` chooses.
_SEARCHED = ("encoding", "bits", "clip", "percentile", "granularity", "packing", "codec")


@click.command()
@cut_options
@range_options
@click.option("--recommended", is_flag=True, help="Encode each cut as `coopexport search` recommends.")
@click.option("--encoding", type=click.Choice(["affine", "float16", "float32"]), help="Symbols of --bits, or floats.")
@click.option(
    "--packing",
    type=click.Choice(["none", "bytes", "words"]),
    help="Put symbols of 1, 2 or 4 bits into bytes in the head; words: int32, for TensorRT 8.2.",
)
@click.option(
    "--codec", type=click.Choice(["raw", "zlib-huffman", "rans", "rans-context"]), help="What turns symbols into bytes."
)
@click.option("--onnx", "onnx_file", type=click.Path(path_type=Path), help="Cut this ONNX file; needs no project.")
@click.option(
    "--output", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where the pairs of --onnx go."
)
@click.option("--standalone", is_flag=True, help="Graphs that hold their own weights, below 2 GB each.")
def split(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    recommended: bool,
    onnx_file: Path | None,
    folder: Path | None,
    standalone: bool,
    **overrides: Any,
) -> None:
    """Cut the network after a layer into head and tail, with the feature encoded at the cut."""
    from calibration.splitting.context import open_data
    from exporter.project.settings import load_project
    from exporter.variants.choice import naming
    from jetson.errors import CoopexportError

    if layer_names and all_layers:
        raise CoopexportError("--layer and --all were both given; use one of them")
    if not layer_names and not all_layers:
        raise CoopexportError(
            "say where to cut: --layer NAME (repeatable) or --all; `coopexport layers` lists the layers"
        )
    if onnx_file is not None:
        in_projects = {"project": project_file, "variant": variant_names, "recommended": recommended, **overrides}
        _split_given(onnx_file, folder, layer_names, all_layers, standalone, in_projects)
        return
    if folder is not None:
        raise CoopexportError("--output is for --onnx FILE; a project's bundles go where its settings say")
    project = load_project(project_file)
    settings = split_settings(project, {**overrides, "standalone": standalone or None})
    contradiction = [name for name in _SEARCHED if overrides.get(name) is not None]
    if recommended and contradiction:
        raise CoopexportError(f"--{contradiction[0]} and --recommended were both given; use one of them")
    work = find_work(project, variant_names, layer_names, all_layers, settings.at)
    task = SplitTask(project, settings, open_data(project), len(work), all_layers, recommended)
    failed: list[str] = []
    for number, item in enumerate(work, start=1):
        with naming(item.graph.variant):
            failed += split_one_variant(task, item, number)
    if len(failed) > 1:
        for reason in failed:
            click.echo(f"not split: {reason}", err=True)
        raise CoopexportError(
            f"{len(failed)} cuts of {len(work)} variants were refused, as said above; the others are there"
        )
    if failed:
        raise CoopexportError(failed[0])
    next_step("coopexport build, then coopexport bench")


def _split_given(
    onnx_file: Path,
    folder: Path | None,
    layer_names: tuple[str, ...],
    all_layers: bool,
    standalone: bool,
    in_projects: dict[str, Any],
) -> None:
    """Cut a given ONNX file, whose features stay float32: to encode them takes a project's data."""
    from coopexport.commands.split_onnx import split_onnx_file
    from jetson.errors import CoopexportError

    most = in_projects.pop("maximum_tensors") or 1
    useless = [name for name, value in in_projects.items() if value]
    if useless:
        raise CoopexportError(f"--{useless[0].replace('_', '-')} needs a project; leave it out with --onnx")
    if folder is None:
        raise CoopexportError("--onnx needs --output FOLDER: where the pairs go")
    split_onnx_file(onnx_file, layer_names, all_layers, most, folder, standalone)


@dataclass(frozen=True)
class SplitTask:
    """What splitting does alike for each of its `count` variants."""

    project: Project
    settings: SplitSection
    data: SplitData
    count: int
    all_layers: bool
    recommended: bool


def split_one_variant(task: SplitTask, item: Work, number: int) -> list[str]:
    """Write the bundles of variant `number` and print what came out; return why cuts failed that the user asked for.

    A layer of --all that cannot be cut is left out and said so, unless nothing of one of several variants is left. The
    loss of accuracy stops the only variant at once, and leaves the others of several to be split.
    """
    from calibration.splitting.context import open_context
    from calibration.splitting.split_variant import LossRefusedError, write_split
    from calibration.splitting.whole_variant import write_whole
    from jetson.errors import CoopexportError

    context = open_context(task.project, task.settings, item.graph, task.data)
    place = f" ({number} of {task.count})" if task.count > MOST_TABLES else ""
    bundles: list[SplitFile] = []
    written: list[Path] = []
    refused: list[str] = []
    crossing = find_boundaries(context, item.layers, task.recommended, refused if task.all_layers else None, place)
    with progress(f"splitting {item.graph.variant}{place}", len(crossing) + 1) as on_progress:
        path, whole = write_whole(context)
        written.append(path)
        on_progress(1)
        for done, (own, layer, boundaries) in enumerate(crossing, start=2):
            try:
                path, manifest = write_split(own, layer, boundaries)
            except CoopexportError as error:
                goes_on = task.all_layers or (task.count > 1 and isinstance(error, LossRefusedError))
                if not goes_on:
                    raise
                refused.append(str(error))
                continue
            written.append(path)
            bundles.append(manifest)
            on_progress(done)
    if task.count > MOST_TABLES:
        for bundle in bundles:
            click.echo(_line(bundle, number, task.count))
    else:
        print_bundles(item.graph.variant, whole, bundles)
        wrote(*written)
    if not task.all_layers or (task.count > 1 and not bundles):
        return refused
    for reason in refused:
        click.echo(f"left out: {reason}", err=True)
    return []


def _line(bundle: SplitFile, number: int, count: int) -> str:
    """Return what came out of one cut of many variants."""
    measured = bundle.metric
    return (
        f"{number:{len(str(count))}} of {count}  {bundle.variant}, cut after {bundle.layer}: {symbol_bytes(bundle):,} "
        f"symbol bytes, {bundle.payload_bytes.mean:.0f} wire bytes, {measured.name} {100 * measured.value:.2f} "
        f"({100 * measured.reference:.2f} uncut)"
    )


def find_boundaries(
    context: SplitContext,
    layers: Sequence[Layer],
    recommended: bool,
    refused: list[str] | None,
    place: str = "",
) -> list[tuple[SplitContext, Layer, tuple[Boundary, ...]]]:
    """Return, for each layer, the context to split it in (its recommended encoding, if wanted) and what crosses there.

    Ranges are measured in one pass where all layers have the same settings. With a list `refused` the reasons of
    layers that cannot be cut go there; otherwise CoopexportError is raised. `place`: which of how many variants, for
    the progress bar.
    """
    from calibration.splitting.context import boundaries
    from jetson.errors import CoopexportError

    with progress(f"calibrating {context.graph.variant}{place}", len(context.calibration_inputs)) as on_progress:
        if not recommended:
            try:
                found = boundaries(context, layers, on_progress)
                return [(context, layer, found[layer.name]) for layer in layers]
            except CoopexportError:
                if refused is None:
                    raise
        result = []
        for layer in layers:
            try:
                own = recommended_context(context, layer) if recommended else context
                result.append((own, layer, boundaries(own, [layer], on_progress)[layer.name]))
            except CoopexportError as error:
                if refused is None:
                    raise
                refused.append(str(error))
    return result


def recommended_context(context: SplitContext, layer: Layer) -> SplitContext:
    """Return `context` with the encoding that was recommended for the cut after `layer`."""
    from calibration.codecs.search_file import with_recommendation
    from calibration.splitting.context import tensors_that_cross
    from exporter.layers.names import display_name

    graph, settings = context.graph, context.settings
    name, tensors = display_name(graph.layers, layer), tensors_that_cross(context, layer)
    return replace(context, settings=with_recommendation(settings, graph.folder, name, graph.model_sha256, tensors))


def print_bundles(variant: str, whole: WholeFile, bundles: Sequence[SplitFile]) -> None:
    """Print what crosses at each cut, and what that costs, beside the whole network."""
    rows = []
    for bundle in bundles:
        measured = bundle.metric
        changed = ""
        if measured.only_reference_right is not None:
            changed = f"{measured.only_reference_right} lost, {measured.only_this_right} won"
        shapes = " + ".join("x".join(map(str, item.shape)) for item in bundle.tensors)
        rows.append(
            (bundle.layer, shapes, bundle.coding, f"{symbol_bytes(bundle):,}", f"{bundle.payload_bytes.mean:.0f}",
             f"{100 * measured.value:.2f}", changed)
        )  # fmt: skip
    title = f"{variant}: {whole.metric.name} {100 * whole.metric.value:.2f} on {whole.metric.samples} images, uncut"
    columns = ["cut after", "feature", "coding", "symbol bytes", "wire bytes", whole.metric.name, "images"]
    print_table(title, columns, rows, left=3)


def symbol_bytes(bundle: SplitFile) -> int:
    """Return the bytes of what crosses before any entropy coding, symbols without gaps."""
    return sum(-(-item.encoding.bits * prod(item.shape) // 8) for item in bundle.tensors)
