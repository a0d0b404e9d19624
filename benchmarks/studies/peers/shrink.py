"""Shrink well-known networks with this project and with its peers: `python -m benchmarks.studies.peers.shrink`.

Needs pytorchcv; Torch-Pruning (`pip install torch-pruning --no-deps`) and NNI where they are to take part. Takes about
ten minutes, and as long again with NNI. Without `--output` the page is printed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence

import torch

from benchmarks.latency.host import describe_host, installed_versions
from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.peers.cases import PUBLISHED, build_case
from benchmarks.studies.peers.measure import measure
from benchmarks.studies.peers.page import Results, page
from benchmarks.studies.peers.rows import Row
from exporter.masks.masks import Meaning

_MEANINGS: tuple[Meaning, ...] = ("channel", "weight")
_TOOLS = ("coopexport", "torch", "torch-pruning", "pytorchcv")


def run(networks: Sequence[str], rounds: int, nni_python: str | None) -> Results:
    """Measure all tools on `networks` (names of PUBLISHED). Raises CoopexportError when a network cannot be made."""
    torch.set_num_threads(1)
    host = describe_host()
    if nni_python is None and importlib.util.find_spec("nni") is not None:
        nni_python = sys.executable
    rows: list[Row] = []
    for source in PUBLISHED:
        for meaning in _MEANINGS if source.name in networks else ():
            say(f"{source.name}, masks of meaning {meaning}")
            rows += measure(build_case(source, meaning), rounds, nni_python)
    return Results(host, installed_versions(_TOOLS), rounds, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    names = [source.name for source in PUBLISHED]
    parser = page_parser(__doc__, "docs/shrink_peers.md")
    parser.add_argument("--networks", nargs="+", choices=names, default=names, help="which networks; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which times are taken")
    parser.add_argument("--nni-python", help="Python of an environment with NNI, torch, NumPy and pytorchcv")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("the number of rounds must be at least 1")
    try:
        return deliver(lambda: page(run(options.networks, options.rounds, options.nni_python)), options.output)
    except ModuleNotFoundError as error:
        say(f"{error}; install it with pip (pytorchcv with --no-deps: it asks for torchvision)")
        return 2


if __name__ == "__main__":
    sys.exit(main())
