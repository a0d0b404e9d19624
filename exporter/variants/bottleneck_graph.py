"""What is special about a variant with a bottleneck when its graph is cut or measured."""

from __future__ import annotations

import onnx

from exporter.bottleneck.design import REDUCTION, bounded_encoding
from exporter.cutting.encoded_halves import encode_inside
from exporter.layers.names import find_layer
from exporter.project.settings import Project, SplitSection
from exporter.variants.layer_graphs import LayerGraph
from exporter.variants.plans import bottleneck_of


def rounded_graph(graph: LayerGraph, bits: int) -> onnx.ModelProto:
    """Return the whole graph with what crosses as symbols of `bits` bits and back: what head and tail compute."""
    layer = find_layer(graph.layers, REDUCTION)
    return encode_inside(graph.load(), layer.tensor, layer.shape, bounded_encoding(bits))


def split_settings(project: Project, variant: str, settings: SplitSection) -> SplitSection:
    """Return how a variant is split: where it has a bottleneck, where and to how many bits it was trained for."""
    found = bottleneck_of(project, variant)
    if found is None:
        return settings
    trained = {"at": "post-activation", "encoding": "affine", "bits": found.bits, "clip": "minmax"}
    packing = {} if settings.packing == "none" or found.bits in (1, 2, 4, 8) else {"packing": "none"}
    return settings.model_copy(update={**trained, "granularity": "tensor", **packing})
