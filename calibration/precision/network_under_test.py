"""What is converted and evaluated: one network, whole or as head and tail, and what its parts make of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.precision.graph_layers import node_layers
from exporter.bundles.bundle import (
    CutTensorRecord,
    FileRecord,
    SplitFile,
    WholeFile,
    read_split,
    read_whole,
    verify_file,
    verify_weights,
)
from exporter.layers.candidates import Layer
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.weight_store import with_weights
from exporter.project.freshness import Inputs, check_fresh
from jetson.wire.feature import FeatureCodec

WHOLE = "whole"
Arrays = list[NDArray[Any]]
Graphs = Mapping[str, onnx.ModelProto]


@dataclass(frozen=True)
class Subgraph:
    """One float32 graph, weights inside: `role` head, tail or whole; `layers`: the layer of each node.

    `is_shared`: its file names weights in the variant's folder instead of holding them.
    """

    role: str
    model: onnx.ModelProto
    source: FileRecord
    layers: tuple[str, ...]
    is_shared: bool


@dataclass(frozen=True)
class NetworkUnderTest:
    """The parts of one network in the order in which they run, and the tensors that cross between them."""

    layer: str
    subgraphs: tuple[Subgraph, ...]
    tensors: tuple[CutTensorRecord, ...] = ()

    @property
    def graphs(self) -> dict[str, onnx.ModelProto]:
        """Return the float32 graphs by role."""
        return {subgraph.role: subgraph.model for subgraph in self.subgraphs}


@dataclass(frozen=True)
class PairRun:
    """What the parts made of some inputs, in their order.

    `head_outputs`: what leaves the head, one array per tensor that crosses, `exits`: outputs of the network that it
    makes, `tail_inputs`: what the tail takes; all empty for a whole network. `outputs`: of the last part.
    """

    head_outputs: Arrays
    exits: Arrays
    tail_inputs: Arrays
    outputs: Arrays


def check_bundle(bundle: SplitFile | WholeFile, layer: str, now: Inputs) -> None:
    """Raise StaleError when a bundle is older than what it was made from; `now`: of that what counts."""
    where = "--all" if layer == WHOLE else f"--layer {layer}"
    command = f"coopexport split {where}"
    check_fresh(f"{layer} of {bundle.variant} was split", bundle.made_from, now, command, layer)


def open_network(folder: Path, layer: str, now: Inputs, layers: Sequence[Layer]) -> NetworkUnderTest:
    """Return head and tail of the bundle of `layer`, or the whole network, out of a variant's folder.

    `now`: what the bundle must be made from; `layers`: of the variant's layer graph. Raises CoopexportError when
    there is no bundle, when it is damaged, or when it is stale.
    """
    tensors: tuple[CutTensorRecord, ...] = ()
    if layer == WHOLE:
        whole = read_whole(folder)
        check_bundle(whole, layer, now)
        records = {WHOLE: whole.model}
    else:
        bundle = read_split(folder, layer)
        check_bundle(bundle, layer, now)
        records = {"head": bundle.head, "tail": bundle.tail}
        tensors = bundle.tensors
    subgraphs = tuple(_subgraph(folder, role, record, layers) for role, record in records.items())
    return NetworkUnderTest(layer, subgraphs, tensors)


def run_subgraphs(
    network: NetworkUnderTest,
    graphs: Graphs,
    inputs: NDArray[np.float32],
    known: PairRun | None = None,
) -> PairRun:
    """Run `graphs` (one per role) one after the other, with what the message makes of symbols in between.

    ONNX Runtime, optimisation disabled, so that no rounding is fused away. `known`: a run with the same head, which is
    then not run again.
    """
    if len(network.subgraphs) == 1:
        return PairRun([], [], [], _run(graphs[WHOLE], [inputs]))
    if known is None:
        made = _run(graphs["head"], [inputs])
        count = len(network.tensors)
        head_outputs, exits = made[:count], made[count:]
        codec = FeatureCodec(tuple(item.feature for item in network.tensors))
        tail_inputs = codec.tail_inputs(codec.symbols(made))
    else:
        head_outputs, exits, tail_inputs = known.head_outputs, known.exits, known.tail_inputs
    return PairRun(head_outputs, exits, tail_inputs, _run(graphs["tail"], tail_inputs))


def inputs_of(network: NetworkUnderTest, role: str, inputs: NDArray[np.float32], found: PairRun) -> Arrays:
    """Return what a part takes: the network's inputs, or, of `found`, what crossed."""
    return found.tail_inputs if role == "tail" else [inputs]


def _subgraph(folder: Path, role: str, record: FileRecord, layers: Sequence[Layer]) -> Subgraph:
    path = verify_file(folder, record)
    verify_weights(folder, path)
    model = onnx.load(str(path.resolve()), load_external_data=False)
    is_shared = any(tensor.external_data for tensor in model.graph.initializer)
    return Subgraph(role, with_weights(model, folder), record, node_layers(model, layers), is_shared)


def _run(model: onnx.ModelProto, inputs: Sequence[NDArray[Any]]) -> Arrays:
    return run(open_session(model, "disabled"), inputs)
