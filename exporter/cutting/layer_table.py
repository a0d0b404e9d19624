"""Every layer of one graph, and where it can be cut: of any ONNX file, or of a project's export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.cutting.onnx_file import read_graph
from exporter.layers.candidates import Layer, layers_of
from exporter.layers.names import short_name
from exporter.layers.table import CutRow, cut_rows, multi_tensor_rows
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import InputError


@dataclass(frozen=True)
class LayerTable:
    """Every layer of one graph, and where it can be cut.

    `name`: of the variant, or of the file. `cuts`: the network's input, a cut behind each layer, and the network's
    output, in that order. `multi_tensor_cuts`: clean cuts where several tensors cross, where they were asked for.
    `short_names`: of the layers, by the tensor that each makes.
    """

    name: str
    cuts: tuple[CutRow, ...]
    multi_tensor_cuts: tuple[CutRow, ...]
    short_names: Mapping[str, str]

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of the whole network, per sample."""
        return self.cuts[-1].macs_before


def list_layers_of_file(path: Path, maximum_tensors: int | None = None) -> LayerTable:
    """Return the layers of an ONNX file and where it can be cut; raises CoopexportError as `read_graph` does.

    `maximum_tensors`: list the cuts where 2 to so many tensors cross, too.
    """
    return layer_table(path.name, path, None, maximum_tensors)


def layer_table(
    name: str, path: Path, layers: Sequence[Layer] | None = None, maximum_tensors: int | None = None
) -> LayerTable:
    """Return the table of the graph in the file `path`.

    `layers`: those of a project's export, which have PyTorch's names; found in the graph without them. Raises
    CoopexportError as `read_graph` does, and when `maximum_tensors` is below 2.
    """
    if maximum_tensors is not None and maximum_tensors < 2:
        raise InputError(
            f"cuts of several tensors have 2 or more: maximum_tensors cannot be {maximum_tensors}", fix="leave it out"
        )
    model = read_graph(path)
    index, types = index_graph(model), tensor_types(model, path.parent)
    layers = layers_of(index, types) if layers is None else layers
    names = {layer.tensor: short_name(layers, layer.name) for layer in layers}
    several = () if maximum_tensors is None else multi_tensor_rows(index, types, maximum_tensors)
    return LayerTable(name, cut_rows(index, types, layers), several, names)
