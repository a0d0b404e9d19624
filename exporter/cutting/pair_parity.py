"""Prove pairs from their files: the whole graph runs once, head and tail of each cut must give the same bits.

Apart from writing, and in steps: what is proven is noted after each pair, by the hashes of what it was proven of, and
is not run again. Nothing is shown by outputs that are empty or stay the same whatever comes in: the former are refused,
the latter named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from pydantic import BaseModel, ConfigDict, ValidationError

from exporter.bundles.bundle import verify_file, verify_weights
from exporter.cutting.pair_files import PAIRS_FILE, PairRecord, PairsFile, read_pairs
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.random_inputs import other_inputs, random_inputs
from exporter.onnx_graphs.session import Optimisation, open_session
from exporter.parity import check_values
from jetson.errors import DamagedFileError, InputError, ParityError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.files.json_files import read_json, write_json

PROOFS_SCHEMA = "coopexport.pair-proofs/1.1"
PROOFS_FILE = "pairs.proofs.json"
RANDOM_SAMPLES = 2
# On noise a detector finds nothing; on louder noise it mostly does.
_SCALES = (1.0, 10.0, 100.0, 1000.0)
_REPORTED_LEVELS: tuple[Optimisation, ...] = ("extended", "all")

Arrays = dict[str, NDArray[Any]]


class PairProof(BaseModel):
    """What was shown of one pair: the same bits as the whole graph with ONNX Runtime's optimisation disabled.

    The hashes say of which files and inputs. `difference_extended`, `difference_all`: largest absolute difference of
    the outputs at these optimisation levels, over the largest absolute value of the outputs, None where their sizes
    differ; reported, not judged.
    `varying_outputs`, `constant_outputs`: of the tail, those that other inputs change, and those that stayed the same
    though they depend on the inputs: of these nothing is shown.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    model_sha256: str
    head_sha256: str
    tail_sha256: str
    inputs_sha256: str
    samples: int
    values_compared: int
    difference_extended: float | None
    difference_all: float | None
    varying_outputs: tuple[str, ...]
    constant_outputs: tuple[str, ...]


def pairs_parity(
    folder: Path, inputs: Mapping[str, NDArray[Any]] | None = None, on_progress: Callable[[int], None] | None = None
) -> tuple[PairProof, ...]:
    """Prove every pair of `folder` that is not proven yet, and return the proofs of all.

    `inputs`: of the network, by name, N samples each; drawn (2 samples) without, louder where outputs are empty
    otherwise. Features at the cut and all outputs must equal those of the whole graph bit for bit. Raises
    CoopexportError naming the pair and the tensor when they do not, or when an output of the tail is empty; when a file
    is not the recorded one; and when the outputs for these inputs are not finite, are not tensors, or are others each
    time. What was proven before stays noted.
    """
    pairs = read_pairs(folder)
    model = onnx.load(str(verify_file(folder, pairs.model)), load_external_data=False)
    verify_weights(folder, folder / pairs.model.file)
    feeds = [dict(inputs)] if inputs is not None else [random_inputs(model, RANDOM_SAMPLES, 0, one) for one in _SCALES]
    described = [_described(feed) for feed in feeds]
    noted = {proof.name: proof for proof in _read_proofs(folder)}
    proofs = {
        record.name: noted[record.name]
        for record in pairs.pairs
        if record.name in noted and any(_holds(noted[record.name], _proven_of(pairs, record, one)) for one in described)
    }
    missing = [record for record in pairs.pairs if record.name not in proofs]
    if missing:
        number, reference = _telling_reference(folder, model, missing, feeds)
        feed = feeds[number]
        levels = {level: _reference(folder, model, [], feed, level) for level in _REPORTED_LEVELS}
        varying, constant = _sorted_outputs(folder, model, feed, reference)
        for record in missing:
            if on_progress is not None:
                on_progress(len(proofs))
            try:
                compared = _exact_parity(folder, record, feed, reference)
            except ParityError:
                _check_repeatable(folder, model, feed)
                raise
            made = {level: _composed(folder, record, feed, level) for level in levels}
            outputs = made[_REPORTED_LEVELS[0]].tail
            proofs[record.name] = PairProof(
                **_proven_of(pairs, record, described[number]),
                values_compared=compared,
                **{f"difference_{level}": _difference(whole, made[level]) for level, whole in levels.items()},
                varying_outputs=tuple(name for name in outputs if name in varying),
                constant_outputs=tuple(name for name in outputs if name in constant),
            )
            content = {"proofs": [proof.model_dump(mode="json") for proof in proofs.values()]}
            write_json(str(folder / PROOFS_FILE), PROOFS_SCHEMA, content)
    return tuple(proofs[record.name] for record in pairs.pairs)


def _described(feed: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what a proof says of its inputs."""
    described = [f"{name} {value.dtype} {value.shape} ".encode() + value.tobytes() for name, value in feed.items()]
    return {
        "inputs_sha256": sha256_of_bytes(b"".join(described)),
        "samples": max((len(value) for value in feed.values() if value.ndim), default=1),
    }


def _proven_of(pairs: PairsFile, record: PairRecord, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a proof is of: it holds as long as none of this changes."""
    return {
        "name": record.name,
        "model_sha256": pairs.model.sha256,
        "head_sha256": record.head.sha256,
        "tail_sha256": record.tail.sha256,
        **inputs,
    }


def _holds(proof: PairProof, proven: Mapping[str, Any]) -> bool:
    return proven.items() <= proof.model_dump().items()


def _telling_reference(
    folder: Path, model: onnx.ModelProto, records: Sequence[PairRecord], feeds: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[int, Arrays]:
    """Return which of `feeds` is the first for which no output is empty, and the reference for it; else the first."""
    names = [value.name for value in model.graph.output]
    first = _reference(folder, model, records, feeds[0])
    if all(first[name].size for name in names):
        return 0, first
    for number, feed in enumerate(feeds[1:], start=1):
        try:
            reference = _reference(folder, model, records, feed)
        except InputError:  # too loud: the outputs overflow
            break
        if all(reference[name].size for name in names):
            return number, reference
    return 0, first


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
            raise InputError(
                f"output '{name}' is not finite for these inputs", fix="give inputs that the network is for"
            )
    return {**values, **feed}


def _sorted_outputs(
    folder: Path, model: onnx.ModelProto, feed: Mapping[str, NDArray[Any]], reference: Arrays
) -> tuple[set[str], set[str]]:
    """Return which outputs of the whole graph other inputs change, and which stay the same though they depend on them.

    Those that the graph makes from constants alone are in neither.
    """
    others = _run(open_session(model, "disabled", weights_folder=folder), other_inputs(feed, seed=1), "the whole graph")
    varying = index_graph(model).varying
    outputs = {value.name for value in model.graph.output if value.name in varying}
    constant = {name for name in outputs if _is_same(others[name], reference[name])}
    return outputs - constant, constant


def _check_repeatable(folder: Path, model: onnx.ModelProto, feed: Mapping[str, NDArray[Any]]) -> None:
    """Raise ParityError when the whole graph, run twice on the same inputs, gives two results."""
    session = open_session(model, "disabled", weights_folder=folder)
    first, second = (_run(session, feed, "the whole graph") for _ in range(2))
    for name, value in first.items():
        if not _is_same(value, second[name]):
            raise ParityError(
                f"output '{name}' of the network changes from run to run on the same inputs: it draws numbers, so that "
                "head and tail cannot be compared with it",
                fix="take the nodes that draw them out",
            )


def _exact_parity(folder: Path, record: PairRecord, feed: Mapping[str, NDArray[Any]], reference: Arrays) -> int:
    """Compare features and outputs of a pair with the whole graph's as bits; returns how many values that were."""
    made = _composed(folder, record, feed, "disabled")
    expected = dict(reference)
    for cut_tensor, source in zip(record.tensors, record.source_tensors, strict=True):
        expected[cut_tensor.name] = reference[source]
    for name, value in {**made.head, **made.tail}.items():
        if not _is_same(value, expected[name]):
            raise ParityError(
                f"{record.name}: '{name}' of head and tail differs from the whole graph's (ONNX Runtime, optimisation "
                "disabled): the pair does not compute what the network does",
                fix="make it again, and report it if it stays",
            )
    for name, value in made.tail.items():
        check_values(value, f"{record.name}: written and not proven: output '{name}'")
    return sum(value.size for value in (*made.head.values(), *made.tail.values()))


@dataclass(frozen=True)
class _Made:
    """What a head makes, the cut tensors included, and what the tail makes of them."""

    head: Arrays
    tail: Arrays


def _composed(folder: Path, record: PairRecord, feed: Mapping[str, NDArray[Any]], level: Optimisation) -> _Made:
    """Run head and tail one after the other."""
    head, tail = (open_session(verify_file(folder, part), level) for part in (record.head, record.tail))
    made = _run(head, feed, record.head.file)
    return _Made(made, _run(tail, {item.name: made[item.name] for item in record.tensors}, record.tail.file))


def _run(session: Any, feed: Mapping[str, NDArray[Any]], where: str) -> Arrays:
    try:
        values = session.run(None, dict(feed))
    except Exception as error:  # noqa: BLE001  its exception types are private
        raise InputError(f"{where} does not run on these inputs: {' '.join(str(error).split())[:300]}") from None
    named = {item.name: value for item, value in zip(session.get_outputs(), values, strict=True)}
    for name, value in named.items():
        if not isinstance(value, np.ndarray):
            raise UnsupportedError(
                f"output '{name}' of {where} is a sequence or map, which cannot be compared bit by bit",
                fix="take it out of the outputs",
            )
    return named


def _is_same(some: NDArray[Any], others: NDArray[Any]) -> bool:
    """Tell whether two arrays are the same bits, or the same texts."""
    if (some.dtype, some.shape) != (others.dtype, others.shape):
        return False
    return bool((some == others).all()) if some.dtype == object else some.tobytes() == others.tobytes()


def _difference(whole: Arrays, made: _Made) -> float | None:
    """Return the largest absolute difference of the outputs over the largest absolute value, or None if sizes differ.

    Of text, the share that differs.
    """
    outputs = {**made.head, **made.tail}
    differences = [0.0]
    for name in set(whole) & set(outputs):
        reference, other = whole[name], outputs[name]
        if reference.shape != other.shape:
            return None
        if reference.dtype == object:
            differences.append(float((reference != other).mean()))
        else:
            first, second = reference.astype(np.float64), other.astype(np.float64)
            largest = float(np.abs(first).max(initial=0.0))
            difference = float(np.abs(first - second).max(initial=0.0))
            differences.append(difference / largest if largest else difference)
    return max(differences)


def _read_proofs(folder: Path) -> tuple[PairProof, ...]:
    path = folder / PROOFS_FILE
    if not path.is_file():
        return ()
    try:
        noted = read_json(str(path), PROOFS_SCHEMA).get("proofs", [])
        return tuple(PairProof.model_validate(item) for item in noted if not _is_of_version_1_0(item))
    except (ValidationError, TypeError):
        raise DamagedFileError(
            f"{path} is malformed", path=path, fix=f"delete it, and {PAIRS_FILE} is proven again"
        ) from None


def _is_of_version_1_0(noted: Mapping[str, Any]) -> bool:
    """Tell whether a note is whole but does not say which outputs vary: such a pair is proven again."""
    return "difference_all" in noted and "varying_outputs" not in noted
