"""Every encoder with a bottleneck becomes a TensorRT-RTX engine, in each precision, and a codec of the device."""

from __future__ import annotations

from importlib import util

import numpy as np
import pytest
from bottleneck_networks import NETWORKS, Opened, opened, settled, small

from benchmarks.studies.engine_matrix.conversion import converted
from benchmarks.studies.engine_matrix.matrix import STATIC, Combination, build_all
from benchmarks.studies.engine_matrix.networks import CutNetwork
from exporter.bottleneck.design import REDUCTION, bounded_encoding
from exporter.bottleneck.insert import find_place, insert
from exporter.cutting.split import CutTensor, split
from exporter.layers.candidates import Layer
from exporter.layers.export import export
from exporter.onnx_graphs.session import open_session, run
from jetson.wire.feature import FeatureCodec

PRECISIONS = ("fp32", "fp16", "int8")


def cut(known: Opened, layer: Layer) -> tuple[CutNetwork, CutTensor]:
    """Return a network cut at a new bottleneck behind `layer`."""
    place = find_place(known.network, known.inputs, layer.name, known.features[layer.name])
    design = small(layer.shape)
    module = settled(insert(known.network, known.inputs, place, design).graph_module, known.inputs)
    exported = export(module, known.inputs)
    found = next(one for one in exported.layers if one.name == REDUCTION)
    tensor = CutTensor(found.tensor, found.shape, bounded_encoding(design.bits))
    images = known.inputs.numpy()
    halves = split(exported.model, [tensor], images, layer.name)
    return (
        CutNetwork(layer.name, REDUCTION, halves.encoded.head, halves.encoded.tail, images, halves.tail_inputs[0]),
        tensor,
    )


def check(network: CutNetwork, tensor: CutTensor) -> None:
    """See the head built in each precision, and its symbols go through a message."""
    combinations = [Combination("head", precision, "8.9", STATIC) for precision in PRECISIONS]
    for outcome in build_all(network, combinations, converted):
        assert outcome.engine_bytes is not None, (network.name, outcome)
    symbols = run(open_session(network.head, "all"), [network.head_inputs])[0]
    codec = FeatureCodec((tensor.feature,), batch=len(symbols))
    assert np.array_equal(codec.decode(codec.encode([symbols]))[0], symbols)


pytestmark = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


def test_an_early_encoder_is_built() -> None:
    known = opened("resnet18")
    check(*cut(known, known.layers[0]))


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_encoders_at_every_clean_cut_are_built(name: str) -> None:
    known = opened(name)
    for layer in known.layers:
        check(*cut(known, layer))
