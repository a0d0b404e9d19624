"""Weights once per folder: every large tensor in a file named by its hash (`jetson.store.blobs`), written in blocks.

Graph files then hold only structure, and any number of them share the weights. No model is ever whole in memory that
was not before, so that there is no limit of 2 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from exporter.bundles.bundle import sha256_of_location, weight_blobs, weight_location
from exporter.onnx_graphs.nodes import TENSOR_VALUES, all_nodes, copy_without_weights
from jetson.errors import DamagedFileError, InputError, UnsupportedError
from jetson.files.atomic_files import blocks_of
from jetson.store.blobs import flush_names, remove_leftovers, sha256_of_content, write_blob

# Smaller tensors stay in the graph: a file each would only be clutter.
MIN_EXTERNAL_BYTES = 1024
# Strings have no bytes of their own; of numbers below a byte the array holds other bytes than a file would.
_GRAPH_ONLY_TYPES = (TensorProto.STRING, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)
# What keeps content, whole or in blocks, and returns its SHA-256.
_Keep = Callable[["bytes | Iterable[bytes]"], str]


def store_weights(
    model: onnx.ModelProto, folder: Path, source_folder: Path | None = None, is_dry: bool = False
) -> onnx.ModelProto:
    """Write the weights of `model` into `folder`/weights and return the graph that refers to them there.

    `model` is not changed; `source_folder`: where its external weights lie; `is_dry`: return the graph and write
    nothing. What is stored already is checked and not written again; each file appears whole or not at all. Raises
    OSError, and CoopexportError when a weight is missing, shorter than the graph says, or outside of `source_folder`.
    """
    stored = copy_without_weights(model)
    if is_dry:
        _refer_to_weights(stored, model, source_folder, folder, sha256_of_content)
        return stored
    blobs = weight_blobs(folder)
    Path(blobs.folder).mkdir(parents=True, exist_ok=True)
    remove_leftovers(blobs)
    _refer_to_weights(stored, model, source_folder, folder, lambda content: write_blob(blobs, content))
    flush_names(blobs)
    return stored


def with_weights(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return a copy of `model` with its external weights, which lie in `folder`, inside.

    Raises CoopexportError when that would be larger than a file of ONNX can be (2 GB).
    """
    total = model.ByteSize() + external_bytes(model)
    if total >= onnx.checker.MAXIMUM_PROTOBUF:
        raise UnsupportedError(
            f"{total / 1e9:.1f} GB do not fit into one ONNX file, which holds 2 GB at most",
            fix="leave out --standalone",
        )
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.load_external_data_for_model(whole, str(folder))
    for tensor in (*whole.graph.initializer, *_inner_tensors(whole)):
        tensor.ClearField("external_data")
    return whole


def external_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of all weights that `model` refers to."""
    return sum(
        _location(tensor)[2] or 0
        for tensor in (*model.graph.initializer, *_inner_tensors(model))
        if tensor.data_location == TensorProto.EXTERNAL
    )


def inline_small_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Read the small tensors of `model` that lie outside, in `folder`, into it, in place: sizes must be at hand.

    Raises CoopexportError as `store_weights`.
    """
    for tensor in (*model.graph.initializer, *_inner_tensors(model)):
        if tensor.data_location != TensorProto.EXTERNAL or (_location(tensor)[2] or 0) >= MIN_EXTERNAL_BYTES:
            continue
        path, offset, length = _source(tensor, folder)
        if length < MIN_EXTERNAL_BYTES:
            tensor.raw_data = b"".join(_blocks(path, offset, length))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")


def _refer_to_weights(
    stored: onnx.ModelProto, model: onnx.ModelProto, source_folder: Path | None, folder: Path, keep: _Keep
) -> None:
    """Let the tensors of `stored` refer to `folder`, and give their values to `keep`."""
    originals = {tensor.name: tensor for tensor in model.graph.initializer}
    known: dict[tuple[str, int, int], str] = {}
    for tensor in stored.graph.initializer:
        original = originals[tensor.name]
        if original.data_location == TensorProto.EXTERNAL:
            _store_external(tensor, original, source_folder, folder, keep, known)
            continue
        data = _values(original)
        if len(data) < MIN_EXTERNAL_BYTES:
            tensor.CopyFrom(original)
        else:
            _refer(tensor, weight_location(folder, keep(data)), len(data))
    for tensor in _inner_tensors(stored):
        if tensor.data_location == TensorProto.EXTERNAL:
            _store_external(tensor, tensor, source_folder, folder, keep, known)


def _store_external(
    tensor: TensorProto,
    original: TensorProto,
    source_folder: Path | None,
    folder: Path,
    keep: _Keep,
    known: dict[tuple[str, int, int], str],
) -> None:
    if source_folder is None:
        raise InputError(f"weight '{original.name}' is not in the graph, and no folder was given to look for it")
    path, offset, length = _source(original, source_folder)
    location = _location(original)[0]
    is_stored = source_folder.resolve() == folder.resolve() and sha256_of_location(folder, location) is not None
    if is_stored and offset == 0:
        name = location
    else:
        key = location, offset, length
        name = known.get(key) or weight_location(folder, keep(_blocks(path, offset, length)))
        known[key] = name
    _refer(tensor, name, length)


def _source(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """Return file, offset and length of an external tensor, and check them; raises CoopexportError."""
    location, offset, length = _location(tensor)
    path = folder / location
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"weight '{tensor.name}' is in {location}, outside of the folder of its graph")
    if not path.is_file():
        raise InputError(f"weight '{tensor.name}' is in {path}, which is missing", path=path)
    length = path.stat().st_size - offset if length is None else length
    if offset + length > path.stat().st_size:
        raise DamagedFileError(f"weight '{tensor.name}' is in {path}, which is shorter than the graph says", path=path)
    return path, offset, length


def _location(tensor: TensorProto) -> tuple[str, int, int | None]:
    """Return file, offset and length of an external tensor; the length may be left out."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    length = entries.get("length")
    return entries.get("location", ""), int(entries.get("offset", 0)), None if length is None else int(length)


def _values(tensor: TensorProto) -> bytes:
    """Return the values of a tensor as they stand in a file; nothing for a tensor that only a graph can hold."""
    if tensor.data_type in _GRAPH_ONLY_TYPES or tensor.ByteSize() < MIN_EXTERNAL_BYTES:
        return b""
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()


def _refer(tensor: TensorProto, name: str, length: int) -> None:
    """Let `tensor` take its values from a whole file."""
    for field in TENSOR_VALUES:
        tensor.ClearField(field)
    for key, value in (("location", name), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    tensor.data_location = TensorProto.EXTERNAL


def _blocks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        for block in blocks_of(file, length):
            length -= len(block)
            yield block
    if length > 0:
        raise DamagedFileError(f"{path} became shorter while it was read", path=path)


def _inner_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield the tensors that are not initialisers of the main graph: of bodies, attributes, functions."""
    functions = (node for function in model.functions for node in function.node)
    for node in all_nodes([*model.graph.node, *functions]):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from attribute.g.initializer
