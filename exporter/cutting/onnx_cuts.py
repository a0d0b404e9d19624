"""Which cuts of any ONNX file are meant, and what their pairs are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.cutting.pair_files import pair_name
from exporter.layers.candidates import Layer
from exporter.layers.cut_points import multi_tensor_cuts, single_tensor_cuts
from exporter.layers.names import find_tensors, short_name
from exporter.onnx_graphs.index import GraphIndex
from exporter.onnx_graphs.tensor_types import TensorType
from jetson.errors import InputError
from jetson.files.atomic_files import sha256_of_bytes


def wanted_cuts(index: GraphIndex, layers: Sequence[Layer], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the tensors of each cut that `names` ask for, by the name of its pair.

    Each of `names` is a layer, a node or a tensor, or several joined by "+". Raises CoopexportError when one is none.
    """
    return _named(index, [find_tensors(layers, index, name) for name in names], layers)


def all_cuts(
    index: GraphIndex, layers: Sequence[Layer], types: Mapping[str, TensorType], maximum: int = 1
) -> dict[str, tuple[str, ...]]:
    """Return every clean cut of up to `maximum` tensors, by the name of its pair.

    Those with a tensor whose size is not fixed are left out.
    """
    found = [(name,) for name in single_tensor_cuts(index)] + list(multi_tensor_cuts(index, maximum))
    return _named(index, [tensors for tensors in found if all(name in types for name in tensors)], layers)


def _named(index: GraphIndex, cuts: Sequence[tuple[str, ...]], layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """Return `cuts` by the names of their pairs: the same name for the same cut, whichever others are made with it.

    Where names differ only in signs that files cannot have, the first of the graph has the plain one, layers before
    other tensors; the others get a hash. Raises CoopexportError when that does not tell them apart.
    """
    short = {layer.tensor: short_name(layers, layer.name) for layer in layers}
    owners: dict[str, str] = {}
    for tensor in (*short, *index.inputs, *(name for names in index.makes for name in names)):
        owners.setdefault(pair_name([short.get(tensor, tensor)]), tensor)
    named: dict[str, tuple[str, ...]] = {}
    for tensors in dict.fromkeys(cuts):
        parts = [short.get(tensor, tensor) for tensor in tensors]
        name = pair_name(parts)
        if any(owners[pair_name([part])] != tensor for part, tensor in zip(parts, tensors, strict=True)):
            name = f"{name}-{sha256_of_bytes('+'.join(tensors).encode())[:8]}"
        if name in named:
            raise InputError(f"two cuts would be called '{name}'", fix="ask for one of them at a time, with --layer")
        named[name] = tensors
    return named
