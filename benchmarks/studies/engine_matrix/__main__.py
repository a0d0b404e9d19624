"""Build the whole matrix of TensorRT-RTX engines and write a page of it: `python -m benchmarks.studies.engine_matrix`.

Needs torch, pytorchcv (`pip install --no-deps pytorchcv`) and the extra `rtx`; no GPU. Takes about ten minutes and 8 GB
of memory. Without `--output` the page is printed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import torch

from benchmarks.latency.host import describe_host
from benchmarks.studies.engine_matrix.conversion import converted
from benchmarks.studies.engine_matrix.matrix import BACKEND, Outcome, all_combinations, build_all
from benchmarks.studies.engine_matrix.networks import NETWORKS, cut_in_the_middle
from benchmarks.studies.engine_matrix.page import page
from benchmarks.studies.page_command import deliver, page_parser, say
from jetson.tensorrt_engines.library import open_library


def run() -> str:
    """Build everything and return the page; raises CoopexportError when TensorRT-RTX is not usable."""
    version = open_library(BACKEND).version
    torch.set_num_threads(1)
    outcomes: list[Outcome] = []
    layers: dict[str, str] = {}
    for source in NETWORKS:
        say(f"{source.name}: cutting")
        network = cut_in_the_middle(source)
        layers[network.name] = network.layer
        for outcome in build_all(network, all_combinations(), converted):
            wanted = outcome.combination
            came = f"{outcome.engine_bytes:,} bytes" if outcome.engine_bytes is not None else outcome.reason
            say(f"{network.name} {wanted.role} {wanted.precision} SM {wanted.compute_capability}: {came}")
            outcomes.append(outcome)
        del network
        gc.collect()
    return page(outcomes, layers, describe_host(), version)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = page_parser(__doc__, "docs/engine_matrix.md")
    return deliver(run, parser.parse_args(arguments).output)


if __name__ == "__main__":
    sys.exit(main())
