"""What is lowered and judged: one network, whole or as head and tail, and what its parts make of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.precision.graph_layers import node_layers
from exporter.bundles.bundle import BoundaryTensor, FileRecord, check_file, check_weights, read_split, read_whole
from exporter.layers.candidates import Layer
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.weight_store import with_weights
from jetson.errors import StaleError
from jetson.wire.feature import FeatureCodec

WHOLE = "whole"
Arrays = list[NDArray[Any]]
Graphs = Mapping[str, onnx.ModelProto]


@dataclass(frozen=True)
class Part:
    """One float32 graph, weights inside: `role` head, tail or whole; `layers`: the layer of each node.

    `is_shared`: its file names weights in the variant's folder instead of holding them.
    """

    role: str
    model: onnx.ModelProto
    source: FileRecord
    layers: tuple[str, ...]
    is_shared: bool


@dataclass(frozen=True)
class Subject:
    """The parts of one network in the order in which they run, and the tensors that cross between them.

    `golden_sha256`: of their golden data.
    """

    layer: str
    parts: tuple[Part, ...]
    golden_sha256: str
    tensors: tuple[BoundaryTensor, ...] = ()

    @property
    def graphs(self) -> dict[str, onnx.ModelProto]:
        """Return the float32 graphs by role."""
        return {part.role: part.model for part in self.parts}


@dataclass(frozen=True)
class PairRun:
    """What the parts made of some inputs, in their order.

    `sent`: what leaves the head, one array per tensor that crosses, `exits`: outputs of the network that it makes,
    `taken`: what the tail takes; all empty for a whole network. `outputs`: of the last part.
    """

    sent: Arrays
    exits: Arrays
    taken: Arrays
    outputs: Arrays


def open_subject(folder: Path, layer: str, model_sha256: str, layers: Sequence[Layer]) -> Subject:
    """Return head and tail of the bundle of `layer`, or the whole network, out of a variant's folder.

    `model_sha256`, `layers`: of the variant's layer graph. Raises CoopexportError when there is no bundle, when it is
    damaged, or when it was made from another graph.
    """
    tensors: tuple[BoundaryTensor, ...] = ()
    if layer == WHOLE:
        whole = read_whole(folder)
        made_from, records, golden = whole.model.sha256, {WHOLE: whole.model}, whole.golden
    else:
        bundle = read_split(folder, layer)
        made_from, records, golden = bundle.model_sha256, {"head": bundle.head, "tail": bundle.tail}, bundle.golden
        tensors = bundle.tensors
    if made_from != model_sha256:
        raise StaleError(
            f"{layer} was split from another graph than the variant has now", layer=layer, fix="run: coopexport split"
        )
    parts = tuple(_part(folder, role, record, layers) for role, record in records.items())
    return Subject(layer, parts, golden.sha256, tensors)


def run_parts(
    subject: Subject,
    graphs: Graphs,
    inputs: NDArray[np.float32],
    known: PairRun | None = None,
) -> PairRun:
    """Run `graphs` (one per role) one after the other, with what the message makes of symbols in between.

    ONNX Runtime, optimisation disabled, so that no rounding is fused away. `known`: a run with the same head, which is
    then not run again.
    """
    if len(subject.parts) == 1:
        return PairRun([], [], [], _run(graphs[WHOLE], [inputs]))
    if known is None:
        made = _run(graphs["head"], [inputs])
        count = len(subject.tensors)
        sent, exits = made[:count], made[count:]
        codec = FeatureCodec(tuple(item.feature for item in subject.tensors))
        taken = codec.tail_inputs(codec.symbols(made))
    else:
        sent, exits, taken = known.sent, known.exits, known.taken
    return PairRun(sent, exits, taken, _run(graphs["tail"], taken))


def inputs_of(subject: Subject, role: str, inputs: NDArray[np.float32], found: PairRun) -> Arrays:
    """Return what a part takes: the network's inputs, or, of `found`, what crossed."""
    return found.taken if role == "tail" else [inputs]


def _part(folder: Path, role: str, record: FileRecord, layers: Sequence[Layer]) -> Part:
    path = check_file(folder, record)
    check_weights(folder, path)
    model = onnx.load(str(path.resolve()), load_external_data=False)
    is_shared = any(tensor.external_data for tensor in model.graph.initializer)
    return Part(role, with_weights(model, folder), record, node_layers(model, layers), is_shared)


def _run(model: onnx.ModelProto, inputs: Sequence[NDArray[Any]]) -> Arrays:
    return run(open_session(model, "disabled"), inputs)
