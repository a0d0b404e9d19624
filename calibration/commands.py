"""Commands of this room: calibrate, split. They sit here because a split needs clip ranges and a metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exporter.command_line import next_step, print_table, progress, project_option, variant_option, wrote

if TYPE_CHECKING:
    from exporter.candidates import Layer
    from exporter.project import Project, SplitSection
    from exporter.variants import LayerGraph

_layer_option = click.option(
    "--layer", "layer_names", multiple=True, help="Layer to cut after, e.g. conv4_1; repeatable."
)
_all_option = click.option(
    "--all", "all_layers", is_flag=True, help="The project's candidates, or every clean cut when it names none."
)
_clip_option = click.option("--clip", type=click.Choice(["minmax", "percentile"]), help="How the range is chosen.")
_percentile_option = click.option("--percentile", type=float, help="Percentile that --clip percentile keeps.")
_at_option = click.option(
    "--at", type=click.Choice(["post-activation", "pre-activation"]), help="After the activation, or before it."
)


@click.command()
@project_option
@variant_option
@_layer_option
@_all_option
@_at_option
@_clip_option
@_percentile_option
def calibrate(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    **overrides: Any,
) -> None:
    """Find the clip range of the feature at each cut, from calibration data."""
    from calibration.calibration_file import FILE_NAME
    from calibration.split_variant import open_context, specifications
    from exporter.project import load_project
    from exporter.split import display_name
    from exporter.variants import layer_graph, variants

    project = load_project(project_file)
    settings = split_settings(project, overrides)
    for variant in variant_names or variants(project):
        graph = layer_graph(project, variant)
        chosen = choose_layers(project, graph, layer_names, all_layers or not layer_names, settings.at)
        context = open_context(project, settings, graph)
        with progress(f"calibrating {variant}", len(context.calibration_inputs)) as on_progress:
            found = specifications(context, chosen, on_progress)
        rows = []
        for layer in chosen:
            clip = found[layer.name].clip
            if clip is not None:
                name = display_name(graph.layers, layer)
                rows.append((name, *(f"{v:.4g}" for v in (clip.low, clip.high, clip.minimum, clip.maximum))))
        print_table(f"Clip ranges of {variant}", ["layer", "low", "high", "minimum", "maximum"], rows)
        if rows:
            wrote(graph.folder / FILE_NAME)
    next_step("coopexport split --layer NAME")


@click.command()
@project_option
@variant_option
@_layer_option
@_all_option
@_at_option
@_clip_option
@_percentile_option
@click.option("--encoding", type=click.Choice(["affine", "float32"]), help="8-bit symbols, or the feature as it is.")
@click.option("--codec", type=click.Choice(["raw", "zlib-huffman"]), help="What turns symbols into bytes.")
def split(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    **overrides: Any,
) -> None:
    """Cut the network after a layer into head and tail, with the feature encoded at the cut."""
    from exporter.project import load_project
    from exporter.variants import variants
    from jetson.errors import CoopexportError

    if layer_names and all_layers:
        raise CoopexportError("--layer and --all were both given; use one of them")
    if not layer_names and not all_layers:
        raise CoopexportError(
            "say where to cut: --layer NAME (repeatable) or --all; `coopexport layers` lists the layers"
        )
    project = load_project(project_file)
    settings = split_settings(project, overrides)
    for variant in variant_names or variants(project):
        split_one_variant(project, settings, variant, layer_names, all_layers)
    next_step("coopexport build, then coopexport bench")


def split_one_variant(
    project: Project, settings: SplitSection, variant: str, layer_names: tuple[str, ...], all_layers: bool
) -> None:
    """Write the bundles of one variant and print what came out; a refused layer of --all is reported at the end."""
    from calibration.split_variant import open_context, specifications, write_split, write_whole
    from exporter.variants import layer_graph
    from jetson.errors import CoopexportError

    graph = layer_graph(project, variant)
    chosen = choose_layers(project, graph, layer_names, all_layers, settings.at)
    context = open_context(project, settings, graph)
    rows, written, refused = [], [], []
    with progress(f"calibrating {variant}", len(context.calibration_inputs)) as on_progress:
        found = specifications(context, chosen, on_progress)
    with progress(f"splitting {variant}", len(chosen) + 1) as on_progress:
        path, whole = write_whole(context)
        written.append(path)
        on_progress(1)
        for done, layer in enumerate(chosen, start=2):
            try:
                path, manifest = write_split(context, layer, found[layer.name])
            except CoopexportError as error:
                if not all_layers:
                    raise
                refused.append(str(error))
                continue
            written.append(path)
            raw = 4 * manifest.tensors[0].encoding.bits // 32 * _elements(manifest.tensors[0].shape)
            measured = manifest.metric
            changed = ""
            if measured.only_reference_right is not None:
                changed = f"{measured.only_reference_right} lost, {measured.only_this_right} won"
            rows.append(
                (manifest.layer, "x".join(map(str, manifest.tensors[0].shape)), f"{raw:,}",
                 f"{manifest.payload_bytes.mean:.0f}", f"{100 * measured.value:.2f}", changed)
            )  # fmt: skip
            on_progress(done)
    title = f"{variant}: {whole.metric.name} {100 * whole.metric.value:.2f} on {whole.metric.samples} images, uncut"
    columns = ["cut after", "feature", "symbol bytes", "wire bytes", whole.metric.name, "images"]
    print_table(title, columns, rows, left=2)
    wrote(*written)
    for reason in refused:
        click.echo(f"left out: {reason}", err=True)


def _elements(shape: tuple[int, ...]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension
    return product


def split_settings(project: Project, overrides: dict[str, Any]) -> SplitSection:
    """Return the project's split settings with the options that were given on the command line."""
    from pydantic import ValidationError

    from exporter.project import SplitSection
    from jetson.errors import CoopexportError

    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return SplitSection.model_validate({**project.settings.split.model_dump(), **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise CoopexportError(f"--{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def choose_layers(
    project: Project, graph: LayerGraph, layer_names: tuple[str, ...], all_layers: bool, at: str
) -> list[Layer]:
    """Return the layers that options or the project name, in the network's order, each once.

    Without names of its own `--all` takes every clean cut; before the activation (`at`) those that have one.
    """
    from exporter.layer_names import find_layer

    names = list(layer_names)
    if all_layers:
        names += project.settings.split.candidates or [
            layer.name
            for layer in graph.layers
            if layer.clean
            and layer.macs_before > 0
            and (at == "post-activation" or layer.tensor_before_activation is not None)
        ]
    chosen = {find_layer(graph.layers, name).name for name in names}
    return [layer for layer in graph.layers if layer.name in chosen]
