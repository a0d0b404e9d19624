"""Cut well-known networks with this project and with its peers: `python -m benchmarks.studies.peers.cut`.

Needs pytorchcv; onnx-ir, onnx-graphsurgeon and Polygraphy (`pip install --no-deps`) where they are to take part. Takes
about ten minutes, most of it for the parity checks and the peers. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.latency.host import describe_host, installed_versions
from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.peers.case_files import NetworkSource
from benchmarks.studies.peers.cut_measure import NotRun, PeerResult, measure_own, measure_peers, refusals, write_network
from benchmarks.studies.peers.cut_page import CutResults, page
from benchmarks.studies.peers.cut_tools import OWN, PEERS
from exporter.onnx_graphs.index import index_graph

# How many pairs all tools write: where this project must be faster with all pairs.
NETWORKS = (
    (NetworkSource("ResNet-50", "pytorchcv.models.resnet", "resnet50"), 4),
    (NetworkSource("VGG-16", "pytorchcv.models.vgg", "vgg16"), 2),
    (NetworkSource("DenseNet-121", "pytorchcv.models.densenet", "densenet121"), 4),
)
# A tensor inside a dense block: the block's input crosses, too.
UNCLEAN = (NetworkSource("DenseNet-121", "pytorchcv.models.densenet", "densenet121"), "stage3.unit5.conv2.activ/Relu")
_TOOLS = ("coopexport", "onnx", "onnxruntime", "onnx-ir", "onnx-graphsurgeon", "polygraphy", "pytorchcv")


def run(networks: Sequence[tuple[NetworkSource, int]] = NETWORKS) -> CutResults:
    """Measure all tools. Raises CoopexportError when a network cannot be exported or a parity check fails."""
    torch.set_num_threads(1)
    host = describe_host()
    own, peers = [], list[PeerResult | NotRun]()
    for source, pairs in networks:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            say(f"{source.name}: exporting")
            write_network(source, path)
            say(f"{source.name}: {pairs} pairs by all tools")
            peers += measure_peers(source.name, path, pairs, Path(folder) / "peers")
            say(f"{source.name}: all pairs, and their parity checks")
            own.append(measure_own(source.name, path, Path(folder) / "pairs"))
    return CutResults(host, installed_versions(_TOOLS), tuple(own), tuple(peers), _unclean(*UNCLEAN))


def _unclean(source: NetworkSource, wanted: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    say(f"{source.name}: a cut that is not clean")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        makers = index_graph(write_network(source, path)).makers
        tensor = next(name for name in makers if wanted in name)
        return source.name, tuple(refusals(path, tensor, Path(folder), (OWN, *PEERS)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    names = [source.name for source, _ in NETWORKS]
    parser = page_parser(__doc__, "docs/cut_peers.md")
    parser.add_argument("--networks", nargs="+", choices=names, default=names, help="which networks; all by default")
    options = parser.parse_args(arguments)
    chosen = [item for item in NETWORKS if item[0].name in options.networks]
    try:
        return deliver(lambda: page(run(chosen)), options.output)
    except ModuleNotFoundError as error:
        say(f"{error}; install it with pip (pytorchcv with --no-deps: it asks for torchvision)")
        return 2


if __name__ == "__main__":
    sys.exit(main())
