"""A network's half in another precision: everything that can be converted is, since the matrix asks what can be
built.
"""

from __future__ import annotations

import onnx

from benchmarks.studies.engine_matrix.networks import CutNetwork
from calibration.precision.convert_graph import convert_precision
from calibration.precision.graph_layers import node_layers
from calibration.precision.int8_ranges import RangeSettings

PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
_PRODUCTS = ("Gemm", "MatMul")


def converted(network: CutNetwork, role: str, precision: str) -> onnx.ModelProto:
    """Return the head or tail of `network` in one of PRECISIONS.

    Ranges of int8 are least and greatest value; "int8+fp16" is int8 with its matrix products in float16, which GPUs of
    the Turing generation need.
    """
    model, inputs = (network.head, network.head_inputs) if role == "head" else (network.tail, network.tail_inputs)
    if precision == "fp32":
        return model
    if precision == "fp16":
        return convert_precision(model, "fp16", [inputs])[0]
    nodes = zip(node_layers(model, ()), model.graph.node, strict=True)
    products = {layer for layer, node in nodes if node.op_type in _PRODUCTS} if precision == "int8+fp16" else set()
    made, _ = convert_precision(model, "int8", [inputs], products, RangeSettings("minmax"), kept_in_half=bool(products))
    return made
