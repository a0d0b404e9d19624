"""A split comes with its two proofs, or is refused with the layer's name."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_networks import images, settled_residual
from torch import nn

from exporter.cutting.cut import cut
from exporter.cutting.split import CutTensor, Split, cut_parity, cut_tensor_of, whole_outputs
from exporter.cutting.split import split as split_at
from exporter.encoding.specification import FLOAT32, ClipRange, EncodeSpecification, affine_specification, encode
from exporter.layers.candidates import Layer
from exporter.layers.export import ExportedGraph, export
from exporter.layers.names import display_name, find_layer
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError, ParityError

SPECIFICATION = affine_specification(ClipRange((-1.0,), (3.0,), "percentile", 99.9, 8, (-1.2,), (4.0,)))


def split(model, layer: Layer, specification: EncodeSpecification, inputs, position="post-activation") -> Split:
    cut_tensor = CutTensor(cut_tensor_of(layer, position), layer.shape, specification)
    return split_at(model, [cut_tensor], inputs, layer.name)


@pytest.fixture(scope="module")
def vgg(settled_vgg: nn.Module, random_images: np.ndarray) -> ExportedGraph:
    return export(settled_vgg, torch.from_numpy(random_images))


@pytest.fixture(scope="module")
def residual() -> ExportedGraph:
    return export(settled_residual(), images((3, 16, 16)))


def layer_of(graph: ExportedGraph, name: str) -> Layer:
    return find_layer(graph.layers, name)


@pytest.mark.parametrize("position", ["post-activation", "pre-activation"])
@pytest.mark.parametrize("kind", ["affine", "float32"])
def test_both_proofs_are_recorded(vgg: ExportedGraph, random_images: np.ndarray, position, kind: str) -> None:
    layer = layer_of(vgg, "conv4_1")
    specification = SPECIFICATION if kind == "affine" else FLOAT32
    result = split(vgg.model, layer, specification, random_images, position)
    assert [(check.check, check.error, check.bound, check.samples) for check in result.parity] == [
        ("cut", 0.0, 0.0, 24),
        ("encode", 0.0, 0.0, 24),
    ]
    assert result.cut_tensors[0].tensor == cut_tensor_of(layer, position)
    feature = run(open_session(result.plain.head, "disabled"), [random_images])[0]
    assert (feature.min() < 0) == (position == "pre-activation")
    (head_outputs,), (tail_inputs,), (outputs,) = result.head_outputs, result.tail_inputs, result.outputs
    assert np.array_equal(head_outputs, encode(specification, feature))
    assert head_outputs.dtype == specification.symbol_dtype
    assert tail_inputs is head_outputs
    assert result.exits == []
    if kind == "float32":
        whole = run(open_session(vgg.model, "disabled"), [random_images])[0]
        assert np.array_equal(outputs.view(np.uint32), whole.view(np.uint32))


def test_every_clean_cut_can_be_split(residual: ExportedGraph) -> None:
    inputs = images((3, 16, 16), 4).numpy()
    names = [layer.name for layer in residual.layers if layer.clean]
    for name in names:
        result = split(residual.model, layer_of(residual, name), SPECIFICATION, inputs)
        assert all(check.error == 0 for check in result.parity)
    assert "block1.Relu_1" in names


def test_a_cut_inside_a_block_is_refused_with_what_crosses(residual: ExportedGraph) -> None:
    with pytest.raises(
        CoopexportError, match=r'layer "block1\.conv1": cannot cut at .*: 2 tensors cross there \(/MaxPool_output_0 '
    ) as caught:
        split(residual.model, layer_of(residual, "block1.conv1"), SPECIFICATION, images((3, 16, 16), 2).numpy())
    assert "/block1/Add_output_0 (2,048 bytes) after" in str(caught.value)


def test_a_cut_before_an_activation_inside_a_block_is_refused_too(residual: ExportedGraph) -> None:
    layer = layer_of(residual, "block1.conv1")
    with pytest.raises(CoopexportError, match="/MaxPool_output_0"):
        split(residual.model, layer, SPECIFICATION, images((3, 16, 16), 2).numpy(), "pre-activation")


def test_the_last_layer_is_no_cut(vgg: ExportedGraph, random_images: np.ndarray) -> None:
    with pytest.raises(CoopexportError, match=r'"classifier": .* the network\'s output'):
        split(vgg.model, layer_of(vgg, "classifier"), SPECIFICATION, random_images)


def test_pre_activation_needs_an_activation(vgg: ExportedGraph) -> None:
    with pytest.raises(CoopexportError, match=r'"features\.pool3" has no activation'):
        cut_tensor_of(layer_of(vgg, "pool3"), "pre-activation")


def test_a_tail_with_one_wrong_bit_is_caught(vgg: ExportedGraph, random_images: np.ndarray) -> None:
    result = split(vgg.model, layer_of(vgg, "conv4_1"), SPECIFICATION, random_images)
    halves = copy.deepcopy(result.plain)
    weight = next(tensor for tensor in halves.tail.graph.initializer if tensor.name == "classifier.bias")
    values = numpy_helper.to_array(weight).copy()
    values[0] = np.nextafter(values[0], np.float32(10))
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(CoopexportError, match=r"conv4_1: parity check 'cut' failed: error \d"):
        cut_parity(whole_outputs(vgg.model, random_images), halves, random_images, "conv4_1")


@pytest.mark.parametrize(
    ("tensor", "what"), [("f", r"output 'y'"), ("z", r"tensor 'z'")], ids=["empty output", "empty feature"]
)
def test_what_is_empty_proves_no_cut(tensor: str, what: str) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> net (float[n, 4] x) => (y) {
        f = Relu (x) low = Constant <value_ints = [4]> () high = Constant <value_ints = [8]> ()
        axis = Constant <value_ints = [1]> () z = Slice (f, low, high, axis) s = ReduceSum (z, axis) y = Neg (z) }""")
    if tensor == "z":  # then the output is not
        model.graph.node[-1].input[0] = "s"
    inputs = np.ones((3, 4), np.float32)
    expected = whole_outputs(model, inputs)
    with pytest.raises(ParityError, match=rf"^here: parity check 'cut': {what}: empty \(3x0\)"):
        cut_parity(expected, cut(model, [tensor]), inputs, "here")


def test_display_names_are_file_names_and_differ(vgg: ExportedGraph, residual: ExportedGraph) -> None:
    for graph in (vgg, residual):
        names = [display_name(graph.layers, layer) for layer in graph.layers]
        assert len(set(names)) == len(names)
        assert not any("/" in name or name.startswith(".") for name in names)
        # What is shown can be asked for.
        for layer, name in zip(graph.layers, names, strict=True):
            assert find_layer(graph.layers, name) == layer
    assert display_name(vgg.layers, layer_of(vgg, "features.conv4_1")) == "conv4_1"
