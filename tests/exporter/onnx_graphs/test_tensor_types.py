"""Types and sizes are those of the running graph, also where shape inference gives up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from network_families import FAMILIES, Family
from onnx import TensorProto, helper, numpy_helper
from small_networks import images, seeded, settled_residual
from torch import nn

from exporter.layers.export import export
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.shape_folding import fold_sizes
from exporter.onnx_graphs.tensor_types import TensorType, cut_tensor_value, tensor_types
from jetson.errors import CoopexportError


def observed(model: onnx.ModelProto, batch: int) -> dict[str, np.ndarray]:
    """Return every tensor of the running graph on zeros."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    feed = {
        value.name: np.zeros([d.dim_value or batch for d in value.type.tensor_type.shape.dim], np.float32)
        for value in model.graph.input
    }
    return dict(zip(names, open_session(watched, "disabled").run(None, feed), strict=True))


def assert_all_types(model: onnx.ModelProto) -> None:
    types = tensor_types(model)
    five, seven = observed(model, 5), observed(model, 7)
    assert set(five) <= set(types)
    for name, value in five.items():
        item = types[name]
        assert np.dtype(item.dtype) == value.dtype
        assert item.has_batch == (value.shape != seven[name].shape)
        assert item.shape == (value.shape[1:] if item.has_batch else value.shape)
        assert item.size_bytes * (5 if item.has_batch else 1) == value.nbytes


class Views(nn.Module):
    """Sizes computed from a shape, twice one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.fc = nn.Linear(4 * 49, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
        return self.fc(x).view(x.size(0), -1, 2).flatten(1)


@pytest.mark.parametrize("make", [settled_residual, lambda: seeded(Views).eval()])
def test_types_are_those_of_the_running_graph(make) -> None:
    assert_all_types(export(make(), images((3, 16, 16))).model)


@pytest.mark.parametrize(
    "family", [item for item in FAMILIES if item.name.startswith(("shufflenetv2", "mobilenetv3", "branchy"))]
)
def test_types_of_families(family: Family) -> None:
    assert_all_types(export(family.build(), family.inputs(4)[0]).model)


def model_of(
    nodes: list[onnx.NodeProto], shape: list[str | int], weights: dict[str, np.ndarray], element_type: int = 1
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", element_type, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_a_part_of_a_shape_is_worked_out_and_what_it_leads_to_is_inferred() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["tail"], start=-2),
        helper.make_node("Concat", ["minus", "tail"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["merged"]),
        helper.make_node("Shape", ["merged"], ["second"]),
        helper.make_node("ReduceProd", ["second"], ["count"], keepdims=0),
        helper.make_node("Relu", ["merged"], ["y"]),
    ]
    model = model_of(nodes, ["batch", 4, 2, 3], {"minus": np.int64([-1])})
    types = tensor_types(model)
    assert types["tail"] == TensorType((2,), TensorProto.INT64, False)
    assert "merged" not in types  # batch times channels: as many as no sample has
    assert types["count"] == TensorType((), TensorProto.INT64, False)
    fixed = model_of(nodes, [2, 4, 2, 3], {"minus": np.int64([-1])})
    assert tensor_types(fixed)["y"] == TensorType((8, 2, 3), TensorProto.FLOAT, False)


def test_a_part_of_a_shape_is_folded_as_that_part() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["middle"], start=1, end=3),
        helper.make_node("Shape", ["x"], ["last"], start=-1),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    model = model_of(nodes, ["batch", 4, 5, 6], {})
    assert fold_sizes(model, {"x": (7, 4, 5, 6)})
    values = {item.name: numpy_helper.to_array(item).tolist() for item in model.graph.initializer}
    assert values == {"middle": [4, 5], "last": [6]}


def test_sizes_are_folded_only_from_what_is_known() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["g"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    model = model_of(nodes, ["batch", 4], {"zero": np.int64([0])})
    assert not fold_sizes(model, {})
    assert fold_sizes(model, {"x": (7, 4)})
    assert [node.op_type for node in model.graph.node] == ["Relu"]
    values = {item.name: numpy_helper.to_array(item).tolist() for item in model.graph.initializer}
    assert values == {"zero": [0], "s": [7, 4], "g": [7]}
    assert not fold_sizes(model, {"x": (7, 4)})


def test_what_inference_does_not_know_is_run() -> None:
    """A size that the data say is taken from no run, though two may agree: of drawn numbers none is zero."""
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"),
        helper.make_node("Flatten", ["g"], ["y"]),
        helper.make_node("NonZero", ["y"], ["where"]),
        helper.make_node("Transpose", ["where"], ["places"]),
    ]
    model = model_of(nodes, [3, 2, 2], {})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    types = tensor_types(model)
    assert types["y"] == TensorType((4,))
    assert "g" in types
    assert not {"where", "places"} & types.keys()


def test_an_output_that_is_a_constant_has_the_size_of_it() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [3, 2], {"anchors": np.zeros((3, 2), np.float32)})
    model.graph.output.append(helper.make_tensor_value_info("anchors", TensorProto.FLOAT, [3, 2]))
    assert tensor_types(model)["anchors"] == TensorType((3, 2), has_batch=False)


def test_text_that_a_run_shows_has_no_size() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["k"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["k"], ["text"], domain="ai.onnx.ml", keys_int64s=[0], values_strings=["a"]),
        helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"),
    ]
    model = model_of(nodes, ["batch", 4], {})
    model.opset_import.extend(helper.make_opsetid(domain, 2) for domain in ("ai.onnx.ml", "com.microsoft"))
    model.opset_import[-1].version = 1
    assert tensor_types(model).keys() == {"x", "k", "y"}


@pytest.mark.parametrize(
    ("first", "second", "declared"),
    [("batch", "batch", "batch"), ("batch", "boxes", None), (2, "boxes", "boxes"), (2, 2, 2)],
)
def test_a_boundary_is_called_as_the_inputs_call_their_batch(first, second, declared) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [first, 4], {})
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [second, 4]))
    (batch, _) = cut_tensor_value("y", TensorType((4,)), model).type.tensor_type.shape.dim
    assert (batch.dim_param or batch.dim_value or None) == declared


def test_external_weights_are_found_where_they_lie(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("NonZero", ["h"], ["where"]),
        helper.make_node("Transpose", ["where"], ["t"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    model = model_of(nodes, ["batch", 40], {"w": np.ones((40, 50), np.float32)})
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False)
    assert tensor_types(graph)["y"] == tensor_types(graph, tmp_path)["y"] == TensorType((50,))
    assert "t" not in tensor_types(graph)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "w.bin"]


def test_a_fixed_batch_is_the_batch() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [3, 4, 5], {}, TensorProto.FLOAT16)
    item = tensor_types(model)["y"]
    assert item == TensorType((4, 5), TensorProto.FLOAT16)
    assert item.size_bytes == 40
    assert item.is_feature
    value = cut_tensor_value("y", item, model)
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [3, 4, 5]


def test_sizes_other_than_the_batch_must_be_fixed() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ["batch", 3, "height", "width"], {})
    with pytest.raises(CoopexportError, match=r"input 'x' has sizes that are not fixed \(height, width\)"):
        tensor_types(model)
