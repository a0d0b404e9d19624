"""What bottlenecks cost and save on the demo's network: `python -m benchmarks.studies.bottlenecks`.

Trains the demo's network from several seeds, searches a bottleneck behind an early cut of each, with the edge's side
trained along and with it frozen, and measures what is exported on the held-out images. Takes an hour and a half on one
quiet core the first time; what was done is kept, and seeds may run side by side. Without `--output` the page is
printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch

from benchmarks.demo.prepare import Recipe
from benchmarks.latency.host import describe_host
from benchmarks.studies.codecs_page.network import default_cache
from benchmarks.studies.markdown import filled, holds, table
from benchmarks.studies.page_command import deliver, page_parser
from benchmarks.studies.splitting.experiment import copied_project, split_everywhere, trained_project, with_bottlenecks
from exporter.bottleneck.insert import BOUND
from exporter.bottleneck.plan import BottleneckFile, read_bottleneck
from exporter.bottleneck.quantiser import Quantiser
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import SplitFile, WholeFile, read_split, read_whole, split_layers
from exporter.data.datasets import load_dataset, network_inputs
from exporter.layers.names import find_layer
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import Project
from exporter.variants.layer_graphs import read_layer_graph
from exporter.variants.plans import ORIGINAL, load_variant
from exporter.variants.record import VariantRecord

LAYER = "pool1"
SEEDS = (0, 1, 2)
TAILS: tuple[Literal["fine-tuned", "frozen"], ...] = ("fine-tuned", "frozen")
RECIPE = Recipe(bottleneck_trainings=3, bottleneck_first_epochs=6.0, bottleneck_epochs=4.0, candidates=(LAYER,))
WANTED_BYTES, WANTED_SHARE, WANTED_LOSS_POINTS = 52.0, 1 / 300, 1.0
WANTED_SAVED = 0.8  # of the bytes of the smaller picture
_BOUNDARY = 1e-4  # of a symbol: nearer to where rounding changes, two float32 results may differ


@dataclass(frozen=True)
class Row:
    """One bottleneck as exported. `work_before`: share of the uncut network's MACs before the cut.

    `picture_bytes`: of the smaller of JPEG and WebP within the same bound; `symbols`: how many the held-out images
    have; `differing`: in how many the exported head and the trained module differ, boundaries aside.
    """

    seed: int
    tail: str
    work_before: float
    record: VariantRecord
    file: BottleneckFile
    bundle: SplitFile
    picture_bytes: float
    symbols: int
    differing: int

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of the feature at the cut, in float32."""
        return 4 * prod(self.file.shape)

    @property
    def bytes(self) -> float:
        """Return the mean message's."""
        return self.bundle.payload_bytes.mean

    @property
    def loss_points(self) -> float:
        """Return how far the exported pair lies below the network without a bottleneck, in points of the metric."""
        return 100 * (self.record.metric.reference - self.bundle.metric.value)

    @property
    def is_wanted(self) -> bool:
        """Tell whether bytes and accuracy are as they should be."""
        small = self.bytes <= min(WANTED_BYTES, WANTED_SHARE * self.feature_bytes)
        true = keeps_bound(self.loss_points, WANTED_LOSS_POINTS)
        return small and true and self.bytes <= (1 - WANTED_SAVED) * self.picture_bytes

    @property
    def is_as_estimated(self) -> bool:
        """Tell whether the message is as long as training counted: within 3 % and 8 bytes."""
        return abs(self.bytes - self.file.estimated_bytes) <= 0.03 * self.file.estimated_bytes + 8


def measure(folder: Path, recipe: Recipe, tails: Sequence[Literal["fine-tuned", "frozen"]] = TAILS) -> tuple[Row, ...]:
    """Train and search in `folder` with the seed of `recipe`, and return what was made; raises CoopexportError."""
    first = trained_project(folder / f"seed-{recipe.seed}", recipe)
    rows: list[Row] = []
    for tail in tails:
        project = copied_project(folder / f"seed-{recipe.seed}-{tail}", first)
        records = with_bottlenecks(project, (LAYER,), tail)
        split_everywhere(project, (ORIGINAL, *(record.variant for record in records)))
        rows += [_row(project, recipe.seed, tail, record) for record in records]
    return tuple(rows)


def _row(project: Project, seed: int, tail: str, record: VariantRecord) -> Row:
    folder = project.variant_folder(record.variant)
    layers = read_layer_graph(project.variant_folder(ORIGINAL), ORIGINAL).layers
    before = find_layer(layers, LAYER).macs_before / sum(layer.macs for layer in layers)
    (cut,) = split_layers(folder)
    differing, symbols = differing_symbols(project, record.variant, cut)
    picture = smaller_picture(read_whole(project.variant_folder(ORIGINAL)), project.settings.select.maximum_loss_points)
    return Row(
        seed, tail, before, record, read_bottleneck(folder), read_split(folder, cut), picture, symbols, differing
    )


def smaller_picture(whole: WholeFile, maximum_loss_points: float) -> float:
    """Return the mean bytes of the smaller coded picture that keeps the bound on the held-out images."""
    return min(
        item.payload_bytes.mean
        for coding, item in whole.inputs.items()
        if coding != "raw" and keeps_bound(item.metric.loss_points, maximum_loss_points)
    )


def differing_symbols(project: Project, variant: str, cut: str) -> tuple[int, int]:
    """Return in how many symbols of the held-out images exported head and trained module differ, and of how many.

    Values within `_BOUNDARY` of where rounding changes do not count.
    """
    folder, file = project.variant_folder(variant), read_bottleneck(project.variant_folder(variant))
    inputs = network_inputs(project, load_dataset(project, "evaluation"))
    head = onnx.load(folder / f"{cut}.head.onnx", load_external_data=False)
    exported = run(open_session(head, "all", weights_folder=folder), [inputs])[0]
    network, seen = load_variant(project, variant), []
    network.get_submodule(BOUND).register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        network(torch.from_numpy(inputs))
    scaled = seen[0].numpy() * ((1 << file.bits) - 1)
    near = np.abs(scaled - np.floor(scaled) - 0.5) <= _BOUNDARY
    trained = Quantiser(file.bits, file.channels).symbols(seen[0]).numpy()
    return int(((exported != trained) & ~near).sum()), exported.size


def page(rows: Sequence[Row]) -> str:
    """Return the page."""
    metric, host, seeds = rows[0].bundle.metric, describe_host(), len({row.seed for row in rows})
    introduction = (
        f"The demo's network (VGG-16 with a strided stem, 64x64 images), trained from {seeds} seeds, with a "
        f"bottleneck behind {LAYER}: {100 * rows[0].work_before:.1f} % of the work lies before it. Each row is a "
        "variant of `coopexport bottleneck`, split by `coopexport split`: bytes are the mean of whole messages of "
        f"{metric.samples:,} held-out images, the accuracy is the exported pair's, and the loss is against the same "
        f"network uncut. `{TAILS[0]}` trains the edge's side along, `{TAILS[1]}` leaves it as it is. Written by "
        f"`python -m benchmarks.studies.bottlenecks --output docs/bottleneck_figures.md` ({host['processor']})."
    )
    wanted = (
        f"Wanted of one of each seed's rows: at most {WANTED_BYTES:g} bytes and 1/{1 / WANTED_SHARE:.0f} of the "
        f"float32 feature, at most {WANTED_LOSS_POINTS:g} point lost, and {100 * WANTED_SAVED:.0f} % fewer bytes than "
        "the smaller of JPEG and WebP at the lowest quality within the same bound. *Estimate*: what training counted; "
        "a message may lie 3 % and 8 bytes off. *Symbols that differ*: between the exported head and the trained "
        "module, but for values within 1e-4 of where rounding changes."
    )
    return "\n\n".join(("# Bottlenecks, seed by seed", filled(introduction), filled(wanted), row_table(rows))) + "\n"


def row_table(rows: Sequence[Row]) -> str:
    """Return one row per bottleneck."""
    header = (
        "seed", "tail", "bytes", "of the feature", "picture bytes", "fewer", "top1 %", "points lost", "images lost",
        "images won", "holds", "estimate", "near enough", "symbols that differ", "images trained on",
    )  # fmt: skip
    cells = [
        (
            f"{row.seed}",
            row.tail,
            f"{row.bytes:.1f}",
            f"1/{row.feature_bytes / row.bytes:.0f}",
            f"{row.picture_bytes:.0f}",
            f"{100 * (1 - row.bytes / row.picture_bytes):.1f} %",
            f"{100 * row.bundle.metric.value:.2f}",
            f"{row.loss_points:.2f}",
            f"{row.record.metric.only_reference_right}",
            f"{row.record.metric.only_this_right}",
            holds(row.is_wanted),
            f"{row.file.estimated_bytes:.1f}",
            holds(row.is_as_estimated),
            f"{row.differing:,} of {row.symbols:,}",
            f"{int(row.record.training['images']):,}",
        )
        for row in rows
    ]
    return table(header, cells, left=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "docs/bottleneck_figures.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="what networks are trained from")
    parser.add_argument(
        "--folder", type=Path, default=default_cache() / "bottlenecks", help="that keeps networks and projects"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def make_page() -> str:
        return page([row for seed in options.seeds for row in measure(options.folder, replace(RECIPE, seed=seed))])

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
