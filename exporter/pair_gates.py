"""Prove pairs from their files: the whole graph runs once, head and tail of each cut must give the same bits.

Apart from writing, and in steps: what is proven is noted after each pair, by the hashes of what it was proven of, and
is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from pydantic import BaseModel, ConfigDict, ValidationError

from exporter.bundle import check_file, check_weights
from exporter.drawn_inputs import drawn_inputs
from exporter.onnx_session import Optimisation, open_session
from exporter.pair_files import PAIRS_FILE, PairRecord, PairsFile, read_pairs
from jetson.atomic_files import sha256_of_bytes
from jetson.errors import CoopexportError
from jetson.json_files import read_json, write_json

PROOFS_SCHEMA = "coopexport.pair-proofs/1.0"
PROOFS_FILE = "pairs.proofs.json"
DRAWN_SAMPLES = 2
_REPORTED_LEVELS: tuple[Optimisation, ...] = ("extended", "all")

Arrays = dict[str, NDArray[Any]]


class PairProof(BaseModel):
    """What was shown of one pair: the same bits as the whole graph with ONNX Runtime's optimisation disabled.

    The hashes say of which files and inputs. `difference_extended`, `difference_all`: largest absolute difference of
    the outputs at these optimisation levels, over the largest absolute value of the outputs; reported, not judged.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    model_sha256: str
    head_sha256: str
    tail_sha256: str
    inputs_sha256: str
    samples: int
    values_compared: int
    difference_extended: float
    difference_all: float


def prove_pairs(
    folder: Path, inputs: Mapping[str, NDArray[Any]] | None = None, on_progress: Callable[[int], None] | None = None
) -> tuple[PairProof, ...]:
    """Prove every pair of `folder` that is not proven yet, and return the proofs of all.

    `inputs`: of the network, by name, N samples each; drawn (2 samples) without. Features at the cut and all outputs
    must equal those of the whole graph bit for bit. Raises CoopexportError naming the pair and the tensor when they do
    not, when a file is not the recorded one, or when the outputs for these inputs are not finite; what was proven
    before stays noted.
    """
    pairs = read_pairs(folder)
    model = onnx.load(str(check_file(folder, pairs.model)), load_external_data=False)
    check_weights(folder, folder / pairs.model.file)
    feed = dict(inputs) if inputs is not None else drawn_inputs(model, DRAWN_SAMPLES, seed=0)
    wanted = {record.name: _subject(pairs, record, feed) for record in pairs.pairs}
    noted = {proof.name: proof for proof in _read_proofs(folder)}
    proofs = {
        name: noted[name]
        for name, subject in wanted.items()
        if name in noted and subject.items() <= noted[name].model_dump().items()
    }
    missing = [record for record in pairs.pairs if record.name not in proofs]
    if missing:
        reference = _reference(folder, model, missing, feed)
        levels = {level: _reference(folder, model, [], feed, level) for level in _REPORTED_LEVELS}
        for record in missing:
            if on_progress is not None:
                on_progress(len(proofs))
            compared = _require_exact(folder, record, feed, reference)
            differences = {
                f"difference_{level}": _difference(whole, _composed(folder, record, feed, level))
                for level, whole in levels.items()
            }
            proofs[record.name] = PairProof(**wanted[record.name], values_compared=compared, **differences)
            content = {"proofs": [proof.model_dump(mode="json") for proof in proofs.values()]}
            write_json(str(folder / PROOFS_FILE), PROOFS_SCHEMA, content)
    return tuple(proofs[record.name] for record in pairs.pairs)


def _subject(pairs: PairsFile, record: PairRecord, feed: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what a proof is of: it holds as long as none of this changes."""
    described = [f"{name} {value.dtype} {value.shape} ".encode() + value.tobytes() for name, value in feed.items()]
    return {
        "name": record.name,
        "model_sha256": pairs.model.sha256,
        "head_sha256": record.head.sha256,
        "tail_sha256": record.tail.sha256,
        "inputs_sha256": sha256_of_bytes(b"".join(described)),
        "samples": max((len(value) for value in feed.values() if value.ndim), default=1),
    }


def _reference(
    folder: Path,
    model: onnx.ModelProto,
    records: Sequence[PairRecord],
    feed: Mapping[str, NDArray[Any]],
    level: Optimisation = "disabled",
) -> Arrays:
    """Return the outputs of the whole graph and the features at the cuts of `records`, from one run."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [value.name for value in model.graph.output]
    features = {name for record in records for name in record.source_tensors} - set(names) - set(feed)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(features))
    values = _run(open_session(watched, level, weights_folder=folder), feed, "the whole graph")
    for name in names:
        if values[name].dtype.kind == "f" and not np.isfinite(values[name]).all():
            raise CoopexportError(
                f"output '{name}' is not finite for these inputs; give inputs that the network is for"
            )
    return {**values, **feed}


def _require_exact(folder: Path, record: PairRecord, feed: Mapping[str, NDArray[Any]], reference: Arrays) -> int:
    """Compare features and outputs of a pair with the whole graph's as bits; returns how many values that were."""
    made = _composed(folder, record, feed, "disabled")
    expected = dict(reference)
    for boundary, source in zip(record.tensors, record.source_tensors, strict=True):
        expected[boundary.name] = reference[source]
    for name, value in made.items():
        other = expected[name]
        if (value.dtype, value.shape) != (other.dtype, other.shape) or value.tobytes() != other.tobytes():
            raise CoopexportError(
                f"{record.name}: '{name}' of head and tail differs from the whole graph's (ONNX Runtime, optimisation "
                "disabled): the pair does not compute what the network does; make it again, and report it if it stays"
            )
    return sum(value.size for value in made.values())


def _composed(folder: Path, record: PairRecord, feed: Mapping[str, NDArray[Any]], level: Optimisation) -> Arrays:
    """Return what head and tail make one after the other, the boundary tensors included."""
    head, tail = (open_session(check_file(folder, part), level) for part in (record.head, record.tail))
    made = _run(head, feed, record.head.file)
    return {**made, **_run(tail, {item.name: made[item.name] for item in record.tensors}, record.tail.file)}


def _run(session: Any, feed: Mapping[str, NDArray[Any]], where: str) -> Arrays:
    try:
        values = session.run(None, dict(feed))
    except Exception as error:  # noqa: BLE001  its exception types are private
        raise CoopexportError(f"{where} does not run on these inputs: {' '.join(str(error).split())[:300]}") from None
    return {item.name: value for item, value in zip(session.get_outputs(), values, strict=True)}


def _difference(whole: Arrays, made: Arrays) -> float:
    """Return the largest absolute difference of the outputs over the largest absolute value."""
    differences = []
    for name in set(whole) & set(made):
        reference, other = whole[name].astype(np.float64), made[name].astype(np.float64)
        largest = float(np.abs(reference).max(initial=0.0))
        difference = float(np.abs(reference - other).max(initial=0.0))
        differences.append(difference / largest if largest else difference)
    return max(differences)


def _read_proofs(folder: Path) -> tuple[PairProof, ...]:
    path = folder / PROOFS_FILE
    if not path.is_file():
        return ()
    try:
        return tuple(PairProof.model_validate(item) for item in read_json(str(path), PROOFS_SCHEMA).get("proofs", []))
    except (ValidationError, TypeError):
        raise CoopexportError(f"{path} is malformed; delete it, and {PAIRS_FILE} is proven again") from None
