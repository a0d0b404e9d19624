"""What crosses at each cut of a real network, without retraining: `python -m benchmarks.studies.feature_bits`.

Every row is a bundle as `coopexport split` writes it: head and tail exported, messages of held-out images, and the
metric of the tail on what came out of them. Trains the network of `benchmarks.studies.codecs` where that has not been
done. Takes some minutes. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.demo.data import DemoData, write_npz
from benchmarks.latency.host import describe_host
from benchmarks.studies.codecs_page.network import PREPROCESSING, NetworkRecipe, default_cache, trained_network
from benchmarks.studies.markdown import filled, table
from benchmarks.studies.page_command import deliver, page_parser, say
from calibration.splitting.context import calibrated_cut_tensors, open_context
from calibration.splitting.split_variant import write_split
from exporter.bundles.bundle import SplitFile
from exporter.layers.names import find_layer
from exporter.project.settings import SplitSection, load_project
from exporter.variants.layer_graphs import layer_graph
from exporter.variants.plans import ORIGINAL
from jetson.files.atomic_files import write_file

LAYERS = ("conv1_2", "pool1", "pool2", "pool3", "pool4")
WAYS: tuple[dict[str, Any], ...] = (
    {"bits": 8, "clip": "percentile", "granularity": "tensor"},
    {"bits": 4, "clip": "minmax", "granularity": "tensor"},
    {"bits": 2, "clip": "minmax", "granularity": "channel"},
    {"bits": 2, "clip": "mse", "granularity": "tensor"},
    {"bits": 2, "clip": "kl", "granularity": "tensor"},
    {"bits": 1, "clip": "mse", "granularity": "channel"},
)
WANTED_BITS_PER_ELEMENT, WANTED_LOSS_POINTS = 0.8, 1.0


@dataclass(frozen=True)
class Row:
    """One cut in one encoding, and what its bundle says."""

    way: dict[str, Any]
    bundle: SplitFile

    @property
    def bits_per_element(self) -> float:
        """Return the bits of the mean message per element of the feature."""
        return 8 * self.bundle.payload_bytes.mean / prod(self.bundle.tensors[0].shape)

    @property
    def is_wanted(self) -> bool:
        """Tell whether this is as small, and as true, as is wanted."""
        return self.bits_per_element <= WANTED_BITS_PER_ELEMENT and self.bundle.metric.loss_points <= WANTED_LOSS_POINTS


def measure(
    folder: Path, recipe: NetworkRecipe, cache: Path, layers: Sequence[str] = LAYERS,
    ways: Sequence[dict[str, Any]] = WAYS,
) -> tuple[Row, ...]:  # fmt: skip
    """Split the trained network in a project in `folder` at all `layers` in all `ways`; raises CoopexportError."""
    network, data = trained_network(recipe, cache)
    write_project(folder, network.state_dict(), data, recipe)
    project = load_project(folder / "coopexport.toml")
    graph = layer_graph(project, ORIGINAL)
    context = open_context(project, SplitSection(maximum_loss_points=100), graph)
    rows = []
    for name in layers:
        layer = find_layer(graph.layers, name)
        for way in ways:
            settings = SplitSection(maximum_loss_points=100, codec="rans-context", **way)
            own = replace(context, settings=settings)
            bundle = write_split(own, layer, calibrated_cut_tensors(own, [layer])[layer.name])
            rows.append(Row(way, bundle))
            say(f"{name}, {way}: {rows[-1].bits_per_element:.3f} bits, {bundle.metric.loss_points:.2f} points lost")
    return tuple(rows)


def write_project(folder: Path, state: dict[str, torch.Tensor], data: DemoData, recipe: NetworkRecipe) -> None:
    """Write a project of the trained network and its data into `folder`."""
    write_npz(folder / "data" / "calibration.npz", data.calibration_images, data.calibration_labels)
    write_npz(folder / "data" / "evaluation.npz", data.evaluation_images, data.evaluation_labels)
    write_file(str(folder / "network.safetensors"), save(state))
    text = f"""schema = "coopexport.project/1.0"
[model]
factory = "exporter.models.vgg:vgg16"
arguments = {{ widths = {list(recipe.widths)} }}
checkpoint = "network.safetensors"
input_shape = [3, 32, 32]
[preprocessing]
scale = {PREPROCESSING.scale}
mean = {list(PREPROCESSING.mean or ())}
std = {list(PREPROCESSING.std or ())}
[data]
calibration = "data/calibration.npz"
evaluation = "data/evaluation.npz"
"""
    write_file(str(folder / "coopexport.toml"), text.encode())


def page(rows: Sequence[Row], recipe: NetworkRecipe) -> str:
    """Return the page: every bundle, and whether it is as small and as true as is wanted."""
    host = describe_host()
    metric = rows[0].bundle.metric
    introduction = (
        f"VGG-16 with batch norm, {recipe.widths[0]} to {recipe.widths[-1]} filters, trained for {recipe.epochs} "
        f"epochs on {recipe.train_count:,} of the demo's images; {metric.name} of the exported graph, uncut: "
        f"{100 * metric.reference:.2f} % of {metric.samples} held-out images. Each row is a bundle of `coopexport "
        "split` with codec `rans-context`: ranges and tables are fitted to calibration images, bytes are those of "
        "whole messages of the held-out ones, and the accuracy is the exported tail's on what came out of them. "
        f"Written by `python -m benchmarks.studies.feature_bits --output docs/feature_bits.md` ({host['processor']})."
    )
    bound = (
        f"Wanted, at some cut: at most {WANTED_BITS_PER_ELEMENT} bits per element, and at most {WANTED_LOSS_POINTS:g} "
        "point lost. The last column says which rows keep both."
    )
    return (
        "\n\n".join(("# Bits of a feature, without retraining", filled(introduction), filled(bound), row_table(rows)))
        + "\n"
    )


def row_table(rows: Sequence[Row]) -> str:
    """Return one row per cut and encoding."""
    header = (
        "cut after", "elements", "bits", "clip", "ranges", "bytes per image", "bits per element", "points lost",
        "images lost", "images won", "holds",
    )  # fmt: skip
    cells = [
        (
            row.bundle.layer,
            f"{prod(row.bundle.tensors[0].shape):,}",
            f"{row.way['bits']}",
            row.way["clip"],
            row.way["granularity"],
            f"{row.bundle.payload_bytes.mean:,.0f}",
            f"{row.bits_per_element:.3f}",
            f"{row.bundle.metric.loss_points:.2f}",
            f"{row.bundle.metric.only_reference_right}",
            f"{row.bundle.metric.only_this_right}",
            "yes" if row.is_wanted else "no",
        )
        for row in rows
    ]
    return table(header, cells, words=("clip", "ranges", "holds"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = page_parser(__doc__, "docs/feature_bits.md")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder that keeps the trained network")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = NetworkRecipe()
    with tempfile.TemporaryDirectory() as folder:
        return deliver(lambda: page(measure(Path(folder), recipe, options.cache), recipe), options.output)


if __name__ == "__main__":
    sys.exit(main())
