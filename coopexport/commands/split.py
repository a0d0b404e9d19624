"""The command split: head and tail of the network at each cut, with the feature encoded between them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coopexport.commands.options import cut_options, naming_options, range_options
from coopexport.output import MAX_TABLES, left_out, next_step, print_table, progress_bar, wrote

if TYPE_CHECKING:
    from calibration.splitting.split_project import VariantSplit
    from exporter.bundles.bundle import SplitFile, WholeFile


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
    from calibration.splitting.choose_cuts import check_where
    from calibration.splitting.split_project import SplitRequest, split_project
    from exporter.project.settings import load_project
    from jetson.errors import InputError, ParityError

    check_where(layer_names, all_layers)
    if onnx_file is not None:
        in_projects = {"project": project_file, "variant": variant_names, "recommended": recommended, **overrides}
        _split_given(onnx_file, folder, layer_names, all_layers, standalone, in_projects)
        return
    if folder is not None:
        raise InputError("--output is for --onnx FILE; a project's bundles go where its settings say")
    project = load_project(project_file)
    request = SplitRequest(
        variant_names, layer_names, all_layers, recommended, standalone=standalone or None, **overrides
    )
    with naming_options(), progress_bar() as bar:
        result = split_project(
            project, request, bar, bar.above(print_variant), lambda count: left_out(count, layer_names)
        )
    if len(result.refused) > 1:
        for reason in result.refused:
            click.echo(f"not split: {reason}", err=True)
        raise ParityError(
            f"{len(result.refused)} cuts of {len(result.variants)} variants were refused, as said above; the others "
            "are there"
        )
    if result.refused:
        raise ParityError(result.refused[0])
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
    from jetson.errors import InputError

    most = in_projects.pop("maximum_tensors") or 1
    useless = [name for name, value in in_projects.items() if value]
    if useless:
        raise InputError(f"--{useless[0].replace('_', '-')} needs a project", fix="leave it out with --onnx")
    if folder is None:
        raise InputError("--onnx needs --output FOLDER: where the pairs go")
    split_onnx_file(onnx_file, layer_names, all_layers, most, folder, standalone)


def print_variant(done: VariantSplit) -> None:
    """Print what was written of one variant: in a table, or of many variants a line for each cut."""
    if done.count > MAX_TABLES:
        for bundle in done.bundles:
            click.echo(_line(bundle, done.number, done.count))
    else:
        print_bundles(done.variant, done.whole, done.bundles)
        wrote(*done.paths)
    for reason in done.left_out:
        click.echo(f"left out: {reason}", err=True)


def _line(bundle: SplitFile, number: int, count: int) -> str:
    """Return what came out of one cut of many variants."""
    measured = bundle.metric
    return (
        f"{number:{len(str(count))}} of {count}  {bundle.variant}, cut after {bundle.layer}: {symbol_bytes(bundle):,} "
        f"symbol bytes, {bundle.payload_bytes.mean:.0f} wire bytes, {measured.name} {100 * measured.value:.2f} "
        f"({100 * measured.reference:.2f} uncut)"
    )


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
