"""Code real features with this project's codecs and with others: `python -m benchmarks.studies.codecs`.

Needs torch and scikit-learn; zstandard, lz4, brotli and imagecodecs where they are to take part. Trains a full-width
VGG-16 on the demo's data first, some minutes, and keeps it in the user's cache folder. Without `--output` the page is
printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.latency.host import describe_host, installed_versions
from benchmarks.studies.codecs_page.benchmark_cases import DEPTHS, PERCENTILES, Depth, make_benchmark_cases
from benchmarks.studies.codecs_page.measure import measure
from benchmarks.studies.codecs_page.network import NetworkRecipe, default_cache, trained_network
from benchmarks.studies.codecs_page.page import Results, page
from benchmarks.studies.page_command import deliver, page_parser, say
from jetson.wire.rans import rans_implementation

_TOOLS = ("coopexport", "numpy", "zstandard", "lz4", "brotli", "pillow", "imagecodecs")
_TRAINING_THREADS = 2


def run(
    recipe: NetworkRecipe,
    cache: Path,
    samples: int,
    depths: Sequence[Depth] = DEPTHS,
    widths: Sequence[int] = tuple(PERCENTILES),
) -> Results:
    """Measure all coders on `samples` held-out images at each depth and width."""
    torch.set_num_threads(_TRAINING_THREADS)
    network, data = trained_network(recipe, cache)
    torch.set_num_threads(1)
    host = describe_host()
    name, reason = rans_implementation()
    cases = []
    for benchmark_case in make_benchmark_cases(network, data, depths, widths):
        say(f"{benchmark_case.name}: top-1 {benchmark_case.top1:.1%}")
        cases.append(measure(benchmark_case, samples))
    return Results(
        host, installed_versions(_TOOLS), f"{name} ({reason})" if reason else name, recipe, samples, tuple(cases)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = page_parser(__doc__, "docs/codecs.md")
    parser.add_argument(
        "--samples", type=int, default=40, help="held-out images that are coded at each depth and width"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder that keeps the trained network")
    options = parser.parse_args(arguments)
    recipe = NetworkRecipe()
    if not 1 <= options.samples <= recipe.evaluation_count:
        parser.error(f"the number of samples must be 1 to {recipe.evaluation_count}")
    return deliver(lambda: page(run(recipe, options.cache, options.samples)), options.output)


if __name__ == "__main__":
    sys.exit(main())
