"""Weights outside of a model: where they may lie, and what every reader refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from engines.preflight.problems import Problem
from exporter.onnx_graphs.nodes import all_nodes


def external_data_problems(model: onnx.ModelProto, folder: Path | None) -> list[Problem]:
    """Return what is wrong with the weights of `model` that lie in other files.

    `folder`: where the model lies; None for one that goes somewhere else by itself. Readers look below that folder
    only: '..', absolute paths, symbolic and hard links are refused by onnx and ONNX Runtime, and TensorRT follows some
    of them, so that it may build with other weights.
    """
    problems = []
    for tensor in _external_tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        reason = _against_location(location) or _against_file(folder, location, entries)
        if reason is not None:
            problems.append(Problem(f"the weights of '{tensor.name}' lie in '{location}': {reason}"))
    return problems


def _external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from (tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL)
    for node in all_nodes(model.graph.node):
        for attribute in node.attribute:
            yield from (
                tensor for tensor in (attribute.t, *attribute.tensors) if tensor.data_location == TensorProto.EXTERNAL
            )


def _against_location(location: str) -> str | None:
    if not location:
        return "no file is named"
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor:
        return "an absolute path, which readers refuse; put the file beside the model"
    if ".." in (*PurePosixPath(location).parts, *PureWindowsPath(location).parts):
        return "a path out of the model's folder, which readers refuse; put the file beside the model"
    return None


def _against_file(folder: Path | None, location: str, entries: dict[str, str]) -> str | None:
    if folder is None:
        return "a file that goes to a builder must hold its weights itself"
    path = folder / location
    parts = PurePosixPath(location).parts
    if any(folder.joinpath(*parts[:count]).is_symlink() for count in range(1, len(parts) + 1)):
        return "a symbolic link, which readers refuse; put the file itself there"
    if not path.is_file():
        return "there is no such file"
    status = path.stat()
    if status.st_nlink > 1:
        return "a hard link, which readers refuse; put a copy there"
    offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    if offset < 0 or length < 0 or offset + length > status.st_size:
        return f"the file has {status.st_size:,} bytes, and bytes {offset:,} to {offset + length:,} are wanted"
    return None
