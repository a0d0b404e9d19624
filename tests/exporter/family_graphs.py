"""Exported networks of the small families, each exported once, and all their pairs."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx
from network_families import FAMILIES

from exporter.cutting.onnx_cuts import all_cuts
from exporter.cutting.pair_files import PairsFile, write_pairs
from exporter.layers.candidates import layers_of
from exporter.layers.export import export
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import tensor_types


@functools.cache
def exported(name: str) -> onnx.ModelProto:
    """Return the graph of a small family; do not change it."""
    family = next(item for item in FAMILIES if item.name == name)
    inputs = family.inputs(4)
    return export(family.build(), inputs if len(inputs) > 1 else inputs[0]).model


def write_all(model: onnx.ModelProto, folder: Path, maximum: int = 1, standalone: bool = False) -> PairsFile:
    """Write every pair of up to `maximum` tensors into `folder`."""
    index, types = index_graph(model), tensor_types(model)
    cuts = all_cuts(index, layers_of(index, types), types, maximum)
    return write_pairs(model, cuts, types, folder, standalone=standalone)
