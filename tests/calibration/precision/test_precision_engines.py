"""Real TensorRT-RTX engines of heads and tails in every precision, without a GPU: what builds, and what does not.

Published networks: tests/benchmarks/studies/test_engine_matrix.py.
"""

from __future__ import annotations

from importlib import util

import numpy as np
import onnx
import pytest
from chain_networks import chain, images

from calibration.precision.convert_graph import convert_precision
from calibration.precision.graph_layers import node_layers
from calibration.precision.int8_graph import quantisable_nodes
from calibration.precision.int8_ranges import RangeSettings
from engines.backends.registry import find_backend
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.cutting.cut import Halves, cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import ClipRange, affine_specification
from exporter.layers.candidates import Layer, candidates
from exporter.onnx_graphs.session import open_session
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

pytestmark = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


def split_in_the_middle(model: onnx.ModelProto, layers: tuple[Layer, ...]) -> Halves:
    """Return the halves of a network with 8-bit symbols between them, about as much work in each."""
    half = layers[-1].macs_before / 2
    layer = min((item for item in layers if item.clean), key=lambda item: abs(item.macs_before - half))
    clip = ClipRange((0.0,), (6.0,), "minmax", None, 16, (0.0,), (6.0,))
    return encode_halves(cut(model, [layer.tensor]), [affine_specification(clip)])


def forms(subgraph: onnx.ModelProto, layers: tuple[Layer, ...], inputs: np.ndarray) -> dict[str, onnx.ModelProto]:
    """Return a head or tail in every precision, and in int8 with the last layer in float16."""
    minmax = RangeSettings("minmax")
    last = node_layers(subgraph, layers)[max(quantisable_nodes(subgraph))]
    return {
        "fp32": subgraph,
        "fp16": convert_precision(subgraph, "fp16", [inputs], layers=layers)[0],
        "int8": convert_precision(subgraph, "int8", [inputs], ranges=minmax, layers=layers)[0],
        "int8, last layer fp16": convert_precision(
            subgraph, "int8", [inputs], [last], minmax, layers, kept_in_half=True
        )[0],
    }


def build(graph: onnx.ModelProto, target_name: str, batches: tuple[int, int, int]) -> bytes:
    target = find_target(target_name)
    settings = BuildSettings(batches=batches, compute_capabilities=(str(target.compute_capability),))
    return find_backend("tensorrt-rtx").build(target_file(graph, target, batches, "graph"), target, settings).data


def has_float_product(graph: onnx.ModelProto) -> bool:
    """Tell whether a matrix product reads float32: TensorRT-RTX has none for SM 7.5."""
    casts = {node.output[0] for node in graph.graph.node if node.op_type == "Cast"}
    products = [node for node in graph.graph.node if node.op_type in ("Gemm", "MatMul")]
    halves = {item.name for item in graph.graph.initializer if item.data_type == onnx.TensorProto.FLOAT16}
    return any(node.input[1] not in halves | casts for node in products)


def build_all(
    model: onnx.ModelProto, layers: tuple[Layer, ...], inputs: np.ndarray, targets: tuple[str, ...],
    batches: tuple[tuple[int, int, int], ...],
) -> None:  # fmt: skip
    """Build head and tail in every form; all must build, but for float32 products at SM 7.5."""
    halves = split_in_the_middle(model, layers)
    symbols = open_session(halves.head, "disabled").run(None, {"images": inputs})[0]
    for subgraph, given in ((halves.head, inputs), (halves.tail, symbols)):
        sizes = {}
        for precision, graph in forms(subgraph, layers, given).items():
            for target in targets:
                for batch in batches:
                    if target == "rtx-turing" and has_float_product(graph):
                        with pytest.raises(CoopexportError, match="Turing"):
                            build(graph, target, batch)
                        continue
                    data = build(graph, target, batch)
                    assert data[:4] == b"vtrt"
                    sizes[precision, target, batch] = len(data)
        full, half, int8 = (sizes[precision, targets[-1], batches[-1]] for precision in ("fp32", "fp16", "int8"))
        if full > 8_000_000:  # below, kernels count for more than weights
            assert half < 0.65 * full
            assert int8 < full


def test_a_small_network_builds_in_every_precision() -> None:
    model = chain()
    build_all(model, candidates(model), images(16), ("rtx-turing", "rtx-ada"), ((1, 1, 1), (1, 4, 8)))
