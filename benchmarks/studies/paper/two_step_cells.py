"""The published networks cut after every layer and timed: what the tables of the paper's figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.latency.stages import TimedStage
from benchmarks.studies.page_command import say
from benchmarks.studies.paper.published import PublishedModel
from benchmarks.studies.paper.timing import measure_blocks
from calibration.ranges.clip_methods import ClipSettings
from calibration.ranges.clip_range import calibrate
from engines.building.build_items import WHOLE
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.cutting.split import CutTensor, split
from exporter.encoding.specification import affine_specification
from exporter.layers.candidates import Layer
from exporter.layers.export import ExportedGraph, export
from exporter.layers.names import display_name
from exporter.onnx_graphs.session import open_session
from jetson.wire.feature import FeatureCodec

_BATCH = (1, 1, 1)


@dataclass(frozen=True)
class Cell:
    """One network cut after one layer. `payload_bytes`: a whole message, 8 bits for each element; `elements`: of the
    feature; times are medians in milliseconds on one thread here, quantiser in `head_ms` and `tail_ms`.
    """

    network: str
    layer: str
    elements: int
    payload_bytes: int
    head_ms: float
    encode_ms: float
    decode_ms: float
    tail_ms: float

    @property
    def before_ms(self) -> float:
        """Return the time of all that runs on the device."""
        return self.head_ms + self.encode_ms

    @property
    def after_ms(self) -> float:
        """Return the time of all that runs on the edge."""
        return self.decode_ms + self.tail_ms


@dataclass(frozen=True)
class Measured:
    """All cells, and of each network the median of the whole, in milliseconds.

    `rounds`, `runs`: every part ran so many times in a row in each of so many rounds.
    """

    cells: tuple[Cell, ...]
    whole_ms: Mapping[str, float]
    rounds: int
    runs: int

    def cells_of(self, network: str) -> tuple[Cell, ...]:
        """Return the cells of one network, in its order."""
        return tuple(cell for cell in self.cells if cell.network == network)


@dataclass(frozen=True)
class _Cut:
    """A pair as it is timed: its sessions and a message, on one image."""

    layer: str
    elements: int
    message: bytes
    stages: tuple[TimedStage, ...]


def measure(
    networks: Sequence[tuple[PublishedModel, nn.Module]], images: torch.Tensor, rounds: int, runs: int
) -> Measured:
    """Cut every network and time all pairs and wholes against each other.

    Each part runs `runs` times in a row in each of `rounds` rounds, as on a machine that runs it for every image; the
    last third of them counts.

    `networks`: the original and step 1 are cut after every convolution and pool, a network of step 2 after the layer
    that it was made narrow for and the pool behind it. `images`: N x 3 x 32 x 32, float32. Raises CoopexportError when
    a network cannot be exported or cut exactly, or a part fails.
    """
    stages: list[TimedStage] = []
    cuts: dict[tuple[str, str], _Cut] = {}
    for model, network in networks:
        say(f"cutting {model.name}")
        graph = export(network, images)
        stages.append(_whole(model.name, graph, images))
        for cut in _cuts(model, graph, images.numpy()):
            cuts[model.name, cut.layer] = cut
            stages += cut.stages
    say(f"timing {len(stages)} parts in {rounds} rounds")
    taken = measure_blocks({stage.key: stage.run for stage in stages}, stages[0].key, rounds, runs)
    times_ms = {(stage.variant, stage.layer, stage.part): taken[stage.key].steady_ms for stage in stages}
    cells = [
        Cell(
            *key,
            cut.elements,
            len(cut.message),
            *(times_ms[(*key, part)] for part in ("head", "encode", "decode", "tail")),
        )
        for key, cut in cuts.items()
    ]
    return Measured(
        tuple(cells), {model.name: times_ms[model.name, WHOLE, WHOLE] for model, _ in networks}, rounds, runs
    )


def cut_layers(model: PublishedModel, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of a network that it is cut after, in its order."""
    names = [display_name(tuple(layers), layer) for layer in layers]
    wanted = [name for name in names if name.startswith(("conv", "pool"))]
    if model.cut_layer is not None:
        place = wanted.index(model.cut_layer)
        wanted = [name for name in wanted[place : place + 2] if name == model.cut_layer or name.startswith("pool")]
    return [layer for name, layer in zip(names, layers, strict=True) if name in wanted]


def _whole(name: str, graph: ExportedGraph, images: torch.Tensor) -> TimedStage:
    session = open_session(target_file(graph.model, find_target("cpu"), _BATCH, name), "all")
    feed = {session.get_inputs()[0].name: images[:1].numpy()}
    return TimedStage(name, WHOLE, WHOLE, None, "", lambda: session.run(None, feed))


def _cuts(model: PublishedModel, graph: ExportedGraph, images: NDArray[np.float32]) -> list[_Cut]:
    layers = cut_layers(model, graph.layers)
    ranges = calibrate(graph.model, [layer.tensor for layer in layers], images, ClipSettings())
    found = []
    for layer in layers:
        tensor = CutTensor(layer.tensor, tuple(layer.shape), affine_specification(ranges[layer.tensor], 8))
        name = display_name(graph.layers, layer)
        pair = split(graph.model, [tensor], images, f"{name} of {model.name}")
        found.append(_timed(model.name, name, tensor, pair.encoded.head, pair.encoded.tail, images[:1]))
    return found


def _timed(network: str, layer: str, tensor: CutTensor, head: Any, tail: Any, image: NDArray[np.float32]) -> _Cut:
    target = find_target("cpu")
    first, second = (
        open_session(target_file(half, target, _BATCH, f"{layer} of {network}"), "all") for half in (head, tail)
    )
    codec = FeatureCodec((tensor.feature,))
    head_feed = {first.get_inputs()[0].name: image}
    symbols = first.run(None, head_feed)
    message = codec.encode(symbols)
    tail_feed = {second.get_inputs()[0].name: codec.decode(message)[0]}
    stages = (
        TimedStage(network, layer, "head", None, "", lambda: first.run(None, head_feed)),
        TimedStage(network, layer, "encode", "raw", "", lambda: codec.encode(symbols)),
        TimedStage(network, layer, "decode", "raw", "", lambda: codec.decode(message)),
        TimedStage(network, layer, "tail", None, "", lambda: second.run(None, tail_feed)),
    )
    return _Cut(layer, int(np.prod(tensor.shape)), message, stages)
