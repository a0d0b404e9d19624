"""Where splitting pays: `python -m benchmarks.studies.where_splitting_pays`.

Trains a network with a strided stem on images of 256 pixels, puts a bottleneck behind an early cut, splits and measures
it at every cut, and says for each slowdown of the device and each goodput of the link what is fastest: device, edge or
split. Takes half an hour and 8 GB of memory the first time; what was done is kept. Without `--output` the page is
printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.demo.prepare import Recipe
from benchmarks.latency.bench_project import BenchRequest, bench_project
from benchmarks.selection.project_selection import select_for_project
from benchmarks.studies.codecs_page.network import default_cache
from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.splitting.experiment import split_everywhere, trained_project, with_bottlenecks
from benchmarks.studies.splitting.figure import regions_figure
from benchmarks.studies.splitting.page import FIGURE, page
from exporter.variants.layer_graphs import read_layer_graph, variants
from jetson.files.atomic_files import write_file

LAYERS = ("pool1",)
RECIPE = Recipe(
    widths=(8, 16, 104, 104, 176, 176, 176, 256, 256, 256, 256, 256, 256),
    strides=(4, 2),
    image_pixels=256,
    train_count=12000,
    epochs=3.0,
    bottleneck_first_epochs=4.0,
    bottleneck_epochs=2.0,
    threads=2,
)


def study(folder: Path, recipe: Recipe = RECIPE, layers: Sequence[str] = LAYERS) -> tuple[str, bytes]:
    """Train, split and measure in `folder`, and return the page and its figure, SVG; raises CoopexportError."""
    project = trained_project(folder, recipe, mirrored=True)
    with_bottlenecks(project, layers)
    split_everywhere(project)
    say("measuring")
    bench_project(project, BenchRequest())
    result = select_for_project(project, project.settings.select, "cpu")
    graphs = {name: read_layer_graph(project.variant_folder(name), name).layers for name in variants(project)}
    pixels = recipe.image_pixels
    images = f"{recipe.train_count:,} images of {pixels}x{pixels} pixels, made as the demo's are, photographs mirrored"
    return page(result, graphs, images), regions_figure(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "docs/where_splitting_pays.md")
    parser.add_argument(
        "--folder", type=Path, default=default_cache() / "where_splitting_pays", help="that keeps network and project"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def make_page() -> str:
        text, figure = study(options.folder)
        if options.output is not None:
            write_file(str(options.output.parent / FIGURE), figure)
        return text

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
