"""The command `coopexport precision`: float16 and int8 forms of what was split, and which layers suffer from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import left_out, next_step, print_table, progress, project_option, variant_option, wrote

if TYPE_CHECKING:
    from calibration.precision.sensitivity import LayerSensitivity
    from calibration.precision.work import PrecisionOptions
    from calibration.splitting.context import SplitContext
    from exporter.bundles.precision_file import Precision, PrecisionFile
    from exporter.project.settings import Project
    from exporter.variants.layer_graphs import LayerGraph

_WHOLE = "whole"


@click.command()
@project_option
@variant_option
@click.option("--layer", "layer_names", multiple=True, help="Layer that was split at, e.g. conv4_1; repeatable.")
@click.option("--all", "all_layers", is_flag=True, help="Every layer that was split at, and the whole network.")
@click.option("--whole", "with_whole", is_flag=True, help="The network that is not cut.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp16", "int8"]),
    multiple=True,
    default=["fp16", "int8"],
    show_default=True,
    help="What to lower to; repeatable.",
)
@click.option(
    "--ranges",
    "method",
    type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
    default="entropy",
    show_default=True,
    help="How ranges of int8 activations are chosen.",
)
@click.option("--percentile", type=float, default=99.99, show_default=True, help="What --ranges percentile keeps.")
@click.option(
    "--maximum-loss",
    "maximum_loss_points",
    type=click.FloatRange(min=0),
    help="Points of the metric that may be lost against float32; default: 0.1 for fp16, 1 for int8.",
)
@click.option("--keep", multiple=True, help="Layer that stays in float32; repeatable.")
@click.option(
    "--kept-in",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Beside int8: in what layers run that stay out of it.",
)
@click.option("--not-mixed", is_flag=True, help="Refuse rather than let sensitive layers stay in float32.")
@click.option("--sensitivity", "only_sensitivity", is_flag=True, help="Only measure what each layer costs alone.")
@click.option(
    "--images", "image_count", type=click.IntRange(min=2), help="Calibration images for --sensitivity; default: all."
)
def precision(
    project_file: Path | None,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    with_whole: bool,
    precisions: tuple[Precision, ...],
    method: str,
    percentile: float,
    maximum_loss_points: float | None,
    keep: tuple[str, ...],
    kept_in: str,
    not_mixed: bool,
    only_sensitivity: bool,
    image_count: int | None,
) -> None:
    """Write heads and tails in float16 or int8, judged image by image against float32."""
    from calibration.precision.int8_ranges import RangeSettings
    from calibration.precision.work import PrecisionOptions
    from exporter.project.settings import load_project
    from jetson.errors import CoopexportError

    if not (layer_names or all_layers or with_whole):
        raise CoopexportError("say what to lower: --layer NAME (repeatable), --whole or --all")
    project = load_project(project_file)
    ranges = RangeSettings(method, percentile)  # type: ignore[arg-type]  # click has checked it
    wanted = [
        PrecisionOptions(name, maximum_loss_points, ranges, keep, not not_mixed, "fp16" if in_half else "fp32")
        for name in dict.fromkeys(precisions)
        for in_half in [name == "int8" and kept_in == "fp16"]
    ]
    work = _find_work(project, variant_names, layer_names, all_layers, with_whole)
    if only_sensitivity:
        _print_sensitivities(project, work, wanted, image_count)
    else:
        _write_all(project, work, wanted)


@dataclass(frozen=True)
class VariantWork:
    """A variant and what of it to lower: layers that were split at, and "whole" for the network itself."""

    graph: LayerGraph
    layers: tuple[str, ...]


def _find_work(
    project: Project,
    variant_names: tuple[str, ...],
    layer_names: tuple[str, ...],
    all_layers: bool,
    with_whole: bool,
) -> list[VariantWork]:
    """Return what to lower; raises CoopexportError when a layer does not exist, or was not split anywhere."""
    from exporter.bundles.bundle import read_split, split_layers
    from exporter.layers.names import display_name, find_layer
    from exporter.variants.choice import chosen_variants, naming
    from exporter.variants.layer_graphs import layer_graph

    found = []
    for choice in chosen_variants(project, variant_names):
        with naming(choice.name):
            graph = layer_graph(project, choice.name)
            names = [display_name(graph.layers, find_layer(graph.layers, name)) for name in layer_names]
            there = split_layers(graph.folder)
            order = {display_name(graph.layers, layer): number for number, layer in enumerate(graph.layers)}
            layers = [name for name in dict.fromkeys(names) if name in there]
            if choice.named and len(layers) < len(set(names)):
                read_split(graph.folder, next(name for name in names if name not in there))  # says how to make it
            layers += [name for name in there if all_layers and name not in layers]
            layers.sort(key=lambda name: order.get(name, len(order)))
            whole = [_WHOLE] if with_whole or (all_layers and (graph.folder / "whole.json").is_file()) else []
            found.append(VariantWork(graph, (*layers, *whole)))
    work = [item for item in found if item.layers]
    if not work:
        read_split(found[0].graph.folder, layer_names[0] if layer_names else "NAME")
    left_out(len(found) - len(work), layer_names)
    return work


def _write_all(project: Project, work: Sequence[VariantWork], wanted: Sequence[PrecisionOptions]) -> None:
    """Write every network in every precision; those that lose too much are named at the end, and the others stay."""
    from calibration.precision.prepare import prepare_precision
    from calibration.precision.work import PrecisionRefusedError
    from calibration.splitting.context import open_data
    from exporter.variants.choice import naming
    from jetson.errors import CoopexportError

    data = open_data(project)
    written: list[Path] = []
    refused: list[str] = []
    records: list[PrecisionFile] = []
    for item in work:
        with naming(item.graph.variant):
            context = _context(project, item.graph, data)
            tasks = [(layer, options) for layer in item.layers for options in wanted]
            with progress(f"lowering {item.graph.variant}", len(tasks)) as on_progress:
                for done, (layer, options) in enumerate(tasks, start=1):
                    try:
                        path, record = prepare_precision(context, layer, options)
                    except PrecisionRefusedError as error:
                        refused.append(str(error))
                        continue
                    written.append(path)
                    records.append(record)
                    on_progress(done)
    if records:
        print_records(records)
    wrote(*written)
    if refused:
        for reason in refused[:-1]:
            click.echo(f"refused: {reason}", err=True)
        raise CoopexportError(refused[-1])
    next_step("coopexport build --precision NAME")


def _print_sensitivities(
    project: Project, work: Sequence[VariantWork], wanted: Sequence[PrecisionOptions], image_count: int | None
) -> None:
    from calibration.precision.sensitivity import sensitivity
    from calibration.precision.work import open_work
    from calibration.splitting.context import open_data
    from exporter.variants.choice import naming

    data = open_data(project)
    for item in work:
        with naming(item.graph.variant):
            context = _context(project, item.graph, data)
            for layer in item.layers:
                for options in wanted:
                    opened = open_work(context, layer, options)
                    count = sum(len(set(lowering.layers.values())) for lowering in opened.lowerings)
                    title = f"{options.precision} of {item.graph.variant}, {layer}"
                    judge = opened.judge if image_count is None else opened.judge.first(image_count)
                    with progress(title, count) as on_progress:
                        found = sensitivity(judge, opened.lowerings, on_progress)
                    print_sensitivity(f"{title}: each layer alone, {len(judge.labels)} images", found)
    next_step("coopexport precision --keep LAYER, or let it choose by itself")


def _context(project: Project, graph: LayerGraph, data: object) -> SplitContext:
    from calibration.splitting.context import open_context

    return open_context(project, project.settings.split, graph, data)  # type: ignore[arg-type]


def print_records(records: Sequence[PrecisionFile]) -> None:
    """Print what was lowered and what that costs, and every layer that stays in float32 with the reason."""
    rows = []
    for record in records:
        measured = record.against_float32
        lowered = " + ".join(f"{role} {len(item.lowered)}" for role, item in record.roles.items())
        kept = sum(len(item.kept) for item in record.roles.values())
        images = ""
        if measured.only_reference_right is not None:
            images = f"{measured.only_reference_right} lost, {measured.only_this_right} won"
        changed = "" if record.changed_answers is None else str(record.changed_answers)
        rows.append(
            (record.variant, record.layer, record.precision, lowered, str(kept), f"{100 * measured.value:.2f}",
             f"{100 * measured.reference:.2f}", images, changed)
        )  # fmt: skip
    first = records[0].against_float32
    columns = [
        "variant",
        "cut after",
        "precision",
        "layers lowered",
        "kept",
        first.name,
        "float32",
        "images",
        "changed",
    ]
    print_table(f"Precision, judged on {first.samples} images", columns, rows, left=4)
    for record in records:
        for item in (kept for role in record.roles.values() for kept in role.kept):
            where = f"{record.variant} {record.layer} {record.precision}"
            click.echo(f"{where}: {item.layer} stays {item.precision}, {item.reason}")


def print_sensitivity(title: str, found: Sequence[LayerSensitivity]) -> None:
    """Print what each layer costs when it alone is lowered, the worst first."""
    rows = []
    for item in found:
        loss = "" if item.loss_points is None else f"{item.loss_points:.2f}"
        changed = "" if item.changed_answers is None else str(item.changed_answers)
        error = "not finite" if item.output_error is None else f"{100 * item.output_error:.3g} %"
        rows.append((item.layer, item.role, item.unfit or "", error, loss, changed))
    columns = ["layer", "part", "stays float32", "error of the outputs", "points lost", "answers changed"]
    print_table(title, columns, rows, left=3)
