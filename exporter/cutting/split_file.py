"""Cut any ONNX file into heads and tails, write the pairs, and prove each to give the bits of the whole graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cutting.onnx_cuts import all_cuts, wanted_cuts
from exporter.cutting.onnx_file import read_graph
from exporter.cutting.pair_files import PAIRS_FILE, PairRecord, write_pairs
from exporter.cutting.pair_parity import PairProof, pairs_parity
from exporter.layers.candidates import layers_of
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import tensor_types
from exporter.progress import OnProgress, no_progress
from jetson.errors import InputError
from jetson.files.atomic_files import sha256_of_file


@dataclass(frozen=True)
class SplitFileRequest:
    """Where to cut an ONNX file, and into which folder the pairs go.

    `layers`: of layers, nodes or tensors, those of one cut joined by "+"; or else `all_layers`: every clean cut of up
    to `maximum_tensors` tensors. `standalone`: heads and tails hold their own weights, below 2 GB each.
    """

    onnx_file: Path
    folder: Path
    layers: tuple[str, ...] = ()
    all_layers: bool = False
    maximum_tensors: int = 1
    standalone: bool = False


@dataclass(frozen=True)
class SplitPair:
    """One pair: its record, the bytes per sample of what crosses, un-encoded, and what was shown of it."""

    record: PairRecord
    size_bytes: int
    proof: PairProof


@dataclass(frozen=True)
class SplitFileResult:
    """The path of `pairs.json`, and all pairs of the folder, those from before included."""

    path: Path
    pairs: tuple[SplitPair, ...]


def split_file(request: SplitFileRequest, on_progress: OnProgress = no_progress) -> SplitFileResult:
    """Write the pairs that were asked for, and prove those that are not proven yet.

    Features stay float32: to encode them takes a project's data. When it is interrupted, the same request goes on
    where it was. `on_progress` is told how many pairs are proven. Raises OSError, and CoopexportError when the file is
    no network, a cut is unknown or not clean, before anything is written; and as `pairs_parity` does.
    """
    if bool(request.layers) == request.all_layers:
        raise InputError("say where to cut: --layer NAME (repeatable), or --all", fix="`coopexport layers` lists names")
    file, folder = request.onnx_file, request.folder
    model = read_graph(file)
    types = tensor_types(model, file.parent)
    index = index_graph(model)
    layers = layers_of(index, types)
    if request.all_layers:
        cuts = all_cuts(index, layers, types, request.maximum_tensors)
    else:
        cuts = wanted_cuts(index, layers, request.layers)
    if not cuts:
        raise InputError(
            f"{file} has no cut where {request.maximum_tensors} tensors cross or fewer",
            path=file,
            fix="raise --max-tensors",
        )
    source = sha256_of_file(str(file))
    pairs = write_pairs(model, cuts, types, folder, file.parent, source, request.standalone, file.name).pairs
    task, count = f"proving {file.name}", len(pairs)
    on_progress(task, 0, count)
    proofs = pairs_parity(folder, on_progress=lambda done: on_progress(task, done, count))
    made = []
    for record, proof in zip(pairs, proofs, strict=True):
        size_bytes = sum(types[name].size_bytes for name in record.source_tensors)
        made.append(SplitPair(record, size_bytes, proof))
    return SplitFileResult(folder / PAIRS_FILE, tuple(made))
