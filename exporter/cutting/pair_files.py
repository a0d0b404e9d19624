"""Head and tail of many cuts as files, from one load: `pairs.json`, the graphs, and their weights once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from pydantic import BaseModel, ConfigDict

from exporter.bundles.bundle import FileRecord
from exporter.bundles.records import read_record
from exporter.cutting.cut import Halves, cut, plan_clean_cut
from exporter.layers.cut_points import CutPlan
from exporter.onnx_graphs.index import GraphIndex, index_graph
from exporter.onnx_graphs.tensor_types import TensorType
from exporter.onnx_graphs.weight_store import store_weights, with_weights
from jetson.errors import CoopexportError, InputError, StaleError, reworded
from jetson.files.atomic_files import sha256_of_bytes, write_files
from jetson.files.json_files import encode_json

PAIRS_SCHEMA = "coopexport.pairs/1.1"
PAIRS_FILE, WHOLE_GRAPH_FILE = "pairs.json", "model.onnx"
_RESERVED_NAMES = ("input", "output", "whole", "model", "pairs")
_LONGEST_NAME = 100


class PairTensorRecord(BaseModel):
    """A tensor that crosses, un-encoded: its name between head and tail, dtype, and shape without the batch."""

    model_config = ConfigDict(frozen=True)
    name: str
    dtype: str
    shape: tuple[int, ...]


class PairRecord(BaseModel):
    """One cut: its cut tensors in the order in which they cross, and its graphs.

    `source_tensors`: their names in the whole graph, which differ where an input of the network crosses.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    source_tensors: tuple[str, ...]
    tensors: tuple[PairTensorRecord, ...]
    head: FileRecord
    tail: FileRecord


class PairsFile(BaseModel):
    """`pairs.json`: the whole graph in the plain form, and the pairs cut from it.

    `source_sha256`, `source_name`: of the file that the graph came from, where there is one; version 1.0 had no name.
    """

    model_config = ConfigDict(frozen=True)
    source_sha256: str | None
    source_name: str | None = None
    model: FileRecord
    standalone: bool
    pairs: tuple[PairRecord, ...]


def write_pairs(
    model: onnx.ModelProto,
    cuts: Mapping[str, Sequence[str]],
    types: Mapping[str, TensorType],
    folder: Path,
    source_folder: Path | None = None,
    source_sha256: str | None = None,
    standalone: bool = False,
    source_name: str | None = None,
) -> PairsFile:
    """Write head and tail of every cut, and `pairs.json`, into `folder`; nothing is proven yet.

    `model`: in the plain form (`normalise`), its external weights in `source_folder`; `cuts`: name of each pair to the
    tensors that cross; `types`: of those tensors. The graphs share the weights in `folder`/weights; with `standalone`
    head and tail hold their own. `source_sha256`, `source_name`: of the file that the graph came from.

    Pairs of the same graph that `folder` has from before stay. Every cut is checked before anything is written. Raises
    OSError, and CoopexportError as `plan_clean_cut` does, naming the pair; when a name cannot be a file's; when
    `folder` holds another model, pairs of another network or form, or a pair of that name and other tensors; and when a
    self-contained file would be above 2 GB.
    """
    if (folder / WHOLE_GRAPH_FILE).exists() and not (folder / PAIRS_FILE).exists():
        raise InputError(f"{folder} holds another {WHOLE_GRAPH_FILE}", path=folder, fix="choose an empty folder")
    unchecked = index_graph(model)
    plans = {name: _checked(unchecked, name, tensors, types) for name, tensors in cuts.items()}
    earlier = read_pairs(folder) if (folder / PAIRS_FILE).exists() else None
    if earlier is not None:
        found = store_weights(model, folder, source_folder, is_dry=True)
        _check_same_source(earlier, _whole_graph(found)[0], source_sha256, standalone, folder)
        _check_same_tensors(earlier, plans, folder)
    stored = store_weights(model, folder, source_folder)
    index = index_graph(stored)
    model_file, whole = _whole_graph(stored)
    records = {} if earlier is None else {record.name: record for record in earlier.pairs}
    graphs = {WHOLE_GRAPH_FILE: whole}
    for name, plan in plans.items():
        halves = cut(index, plan.cut_tensors, types)
        files = _graph_files(name, halves, folder if standalone else None)
        records[name] = _record(name, plan.cut_tensors, halves, files, types)
        if standalone:  # one at a time: together they may be larger than the memory
            write_files(str(folder), files)
        else:
            graphs.update(files)
    pairs = PairsFile(
        source_sha256=source_sha256,
        source_name=source_name,
        model=model_file,
        standalone=standalone,
        pairs=tuple(records.values()),
    )
    write_files(str(folder), {**graphs, PAIRS_FILE: encode_json(PAIRS_SCHEMA, pairs.model_dump(mode="json"))})
    return pairs


def read_pairs(folder: Path) -> PairsFile:
    """Read `pairs.json`; raises CoopexportError when it is missing or malformed."""
    path = folder / PAIRS_FILE
    if not path.is_file():
        raise StaleError(
            f"there is no {path}", path=path, fix=f"make it with: coopexport split --onnx FILE --output {folder}"
        )
    return read_record(PairsFile, path, PAIRS_SCHEMA, "split again")


def pair_name(names: Sequence[str]) -> str:
    """Return a file name for a pair out of the short names of the layers or tensors that it is cut at."""
    name = "+".join(re.sub(r"[^A-Za-z0-9_.-]", "_", item.strip("/")) for item in names).lstrip(".")
    if len(name) > _LONGEST_NAME:  # file systems allow 255 bytes, endings included
        name = f"{name[: _LONGEST_NAME - 9]}-{sha256_of_bytes(name.encode())[:8]}"
    return f"cut-{name}" if name in _RESERVED_NAMES or not name else name


def _whole_graph(stored: onnx.ModelProto) -> tuple[FileRecord, bytes]:
    """Return record and content of the whole graph; its hash covers the weights, which it names by theirs."""
    whole = stored.SerializeToString(deterministic=True)
    return FileRecord(file=WHOLE_GRAPH_FILE, sha256=sha256_of_bytes(whole)), whole


def _check_same_source(
    earlier: PairsFile, model: FileRecord, source_sha256: str | None, standalone: bool, folder: Path
) -> None:
    """Raise CoopexportError unless the pairs that `folder` holds are of this graph, and in this form."""
    remedy = "choose another folder, or delete this one first"
    if earlier.model != model:
        if source_sha256 is not None and earlier.source_sha256 == source_sha256:
            raise StaleError(
                f"{folder} holds pairs of this file that were made when its external weights were others, or by "
                "another version of coopexport",
                path=folder,
                fix=remedy,
            )
        source = ""
        if earlier.source_sha256 is not None:
            source = f", {earlier.source_name or 'a file'} (SHA-256 {earlier.source_sha256})"
        raise StaleError(f"{folder} holds pairs of another network{source}", path=folder, fix=remedy)
    if earlier.standalone != standalone:
        form = "with their weights inside; give" if earlier.standalone else "that share their weights; leave out"
        raise InputError(f"{folder} holds pairs {form} --standalone, or choose another folder", path=folder)


def _check_same_tensors(earlier: PairsFile, plans: Mapping[str, CutPlan], folder: Path) -> None:
    """Raise InputError when a pair of `folder` would be overwritten by one that is cut elsewhere."""
    for record in earlier.pairs:
        if record.name in plans and plans[record.name].cut_tensors != record.source_tensors:
            raise InputError(
                f"{folder} holds a pair '{record.name}' that is cut at {', '.join(record.source_tensors)}, not at "
                f"{', '.join(plans[record.name].cut_tensors)}",
                path=folder,
                fix="choose another folder",
            )


def _checked(index: GraphIndex, name: str, tensors: Sequence[str], types: Mapping[str, TensorType]) -> CutPlan:
    if name in _RESERVED_NAMES or Path(name).name != name:
        raise InputError(f'a pair cannot be called "{name}"')
    try:
        return plan_clean_cut(index, tensors, types)
    except CoopexportError as error:
        raise reworded(error, f"{name}: {error}", layer=name) from None


def _graph_files(name: str, halves: Halves, weights_folder: Path | None) -> dict[str, bytes]:
    """Return file names and contents of head and tail, with the weights of `weights_folder` inside if it is given."""
    files = {}
    for role, part in (("head", halves.head), ("tail", halves.tail)):
        file = f"{name}.{role}.onnx"
        try:
            whole = part if weights_folder is None else with_weights(part, weights_folder)
        except CoopexportError as error:
            raise reworded(error, f"{file}: {error}") from None
        files[file] = whole.SerializeToString(deterministic=True)
    return files


def _record(
    name: str, cut_tensors: Sequence[str], halves: Halves, files: Mapping[str, bytes], types: Mapping[str, TensorType]
) -> PairRecord:
    head, tail = (FileRecord(file=file, sha256=sha256_of_bytes(data)) for file, data in files.items())
    cut_tensor = tuple(
        PairTensorRecord(name=value.name, dtype=types[source].dtype, shape=types[source].shape)
        for source, value in zip(
            cut_tensors, halves.tail.graph.input, strict=False
        )  # inputs with a default value follow
    )
    return PairRecord(name=name, source_tensors=tuple(cut_tensors), tensors=cut_tensor, head=head, tail=tail)
