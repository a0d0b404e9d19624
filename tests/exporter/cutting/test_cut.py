"""A cut leaves two graphs that together are the whole, bit for bit; anything else is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from small_networks import images, settled_residual
from torch import nn

from exporter.cutting.cut import Halves, cut
from exporter.cutting.encoded_halves import encode_halves, symbols_name
from exporter.encoding.specification import FLOAT32, ClipRange, affine_specification, decode, encode
from exporter.layers.candidates import Layer
from exporter.layers.export import ExportedGraph, export
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.tensor_types import TensorType
from jetson.errors import CoopexportError

SPECIFICATION = affine_specification(ClipRange((0.0,), (2.0,), "minmax", None, 8, (0.0,), (2.0,)))


@pytest.fixture(scope="module", params=["vgg", "residual"])
def graph(request: pytest.FixtureRequest, settled_vgg: nn.Module) -> ExportedGraph:
    if request.param == "vgg":
        return export(settled_vgg, images((3, 32, 32)))
    return export(settled_residual(), images((3, 16, 16)))


def inputs_of(graph: ExportedGraph, count: int = 5) -> np.ndarray:
    shape = [d.dim_value for d in graph.model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return images(tuple(shape), count, seed=8).numpy()


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint32)


def tensors_of(layer: Layer) -> list[str]:
    return [layer.tensor, *([layer.tensor_before_activation] if layer.tensor_before_activation else [])]


def test_every_clean_cut_is_exact_before_and_after_the_activation(graph: ExportedGraph) -> None:
    inputs = inputs_of(graph)
    whole = run(open_session(graph.model, "disabled"), [inputs])[0]
    clean = [layer for layer in graph.layers if layer.clean]
    assert len(clean) >= 8
    for layer in clean:
        for tensor in tensors_of(layer):
            halves = cut(graph.model, [tensor], {tensor: TensorType(layer.shape)})
            onnx.checker.check_model(halves.head, full_check=True)
            onnx.checker.check_model(halves.tail, full_check=True)
            feature = run(open_session(halves.head, "disabled"), [inputs])[0]
            assert feature.shape[1:] == layer.shape
            assert np.array_equal(bits(run(open_session(halves.tail, "disabled"), [feature])[0]), bits(whole))


def test_halves_share_no_node_and_lose_no_weight(graph: ExportedGraph) -> None:
    layer = next(layer for layer in graph.layers if layer.clean and layer.macs)
    halves = cut(graph.model, [layer.tensor])
    names = [{node.name for node in part.graph.node} for part in (halves.head, halves.tail)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {node.name for node in graph.model.graph.node}
    weights = [{tensor.name for tensor in part.graph.initializer} for part in (halves.head, halves.tail)]
    assert weights[0] | weights[1] == {tensor.name for tensor in graph.model.graph.initializer}
    assert [item.version for item in halves.head.opset_import] == [13]


def test_a_cut_that_is_not_clean_names_what_crosses_and_where_less_does() -> None:
    graph = export(settled_residual(), images((3, 16, 16)))
    inside = next(layer for layer in graph.layers if layer.name == "block1.conv1")
    with pytest.raises(CoopexportError) as caught:
        cut(graph.model, [inside.tensor])
    assert str(caught.value) == (
        "cannot cut at /block1/Relu_output_0: 2 tensors cross there (/MaxPool_output_0 (2,048 bytes), "
        "/block1/Relu_output_0 (2,048 bytes), 4,096 bytes together); the nearest clean cuts are /MaxPool_output_0 "
        "(2,048 bytes) before and /block1/Add_output_0 (2,048 bytes) after"
    )


@pytest.mark.parametrize("tensor", ["images", "scores", "nothing"])
def test_input_output_and_unknown_tensors_are_no_cuts(graph: ExportedGraph, tensor: str) -> None:
    with pytest.raises(CoopexportError, match=f"'{tensor}'"):
        cut(graph.model, [tensor])


def middle(graph: ExportedGraph) -> tuple[Layer, Halves]:
    layer = [layer for layer in graph.layers if layer.clean][3]
    return layer, cut(graph.model, [layer.tensor])


def test_encoded_halves_are_valid_and_send_uint8(graph: ExportedGraph) -> None:
    layer, plain = middle(graph)
    before = [part.SerializeToString(deterministic=True) for part in (plain.head, plain.tail)]
    encoded = encode_halves(plain, [SPECIFICATION])
    for part in (encoded.head, encoded.tail):
        onnx.checker.check_model(part, full_check=True)
    (head_outputs,), (received,) = encoded.head.graph.output, encoded.tail.graph.input
    assert head_outputs == received
    assert head_outputs.name == symbols_name(0)
    assert head_outputs.type.tensor_type.elem_type == TensorProto.UINT8
    dimensions = head_outputs.type.tensor_type.shape.dim
    assert dimensions[0].dim_param == "batch"
    assert tuple(d.dim_value for d in dimensions[1:]) == layer.shape
    assert before == [part.SerializeToString(deterministic=True) for part in (plain.head, plain.tail)]


def test_encoded_halves_compute_the_reference(graph: ExportedGraph) -> None:
    _, plain = middle(graph)
    encoded = encode_halves(plain, [SPECIFICATION])
    inputs = inputs_of(graph, 70)  # more than one batch of the runner
    feature = run(open_session(plain.head, "disabled"), [inputs])[0]
    symbols = run(open_session(encoded.head, "disabled"), [inputs])[0]
    assert np.array_equal(symbols, encode(SPECIFICATION, feature))
    outputs = run(open_session(encoded.tail, "disabled"), [symbols])[0]
    expected = run(open_session(plain.tail, "disabled"), [decode(SPECIFICATION, symbols)])[0]
    assert np.array_equal(bits(outputs), bits(expected))


def test_float32_changes_nothing(graph: ExportedGraph) -> None:
    _, plain = middle(graph)
    assert encode_halves(plain, [FLOAT32]) is plain


def test_the_whole_graph_is_not_changed(settled_vgg: nn.Module, random_images: np.ndarray) -> None:
    graph = export(settled_vgg, torch.from_numpy(random_images))
    before = graph.model.SerializeToString(deterministic=True)
    encode_halves(middle(graph)[1], [SPECIFICATION])
    assert graph.model.SerializeToString(deterministic=True) == before
