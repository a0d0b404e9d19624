"""Every layer with its bytes, cost and cuts, against counts that are made another way."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_networks import images, settled_residual
from torch import nn

from exporter.layers.candidates import Layer, candidates, layer_name
from exporter.layers.export import ExportedGraph, export
from exporter.onnx_graphs.nodes import producers
from exporter.onnx_graphs.session import open_session


@pytest.fixture(scope="module")
def vgg(settled_vgg: nn.Module, random_images: np.ndarray) -> ExportedGraph:
    return export(settled_vgg, torch.from_numpy(random_images))


@pytest.fixture(scope="module")
def residual() -> ExportedGraph:
    return export(settled_residual(), images((3, 16, 16)))


@pytest.fixture(params=["vgg", "residual"])
def graph(request: pytest.FixtureRequest) -> ExportedGraph:
    return request.getfixturevalue(request.param)


def macs_by_hooks(network: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Count multiply-accumulates of one sample as PyTorch runs it, in execution order."""
    counted: dict[str, int] = {}

    def hook(name: str):
        def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                kernel = module.kernel_size[0] * module.kernel_size[1]
                counted[name] = output[0].numel() * module.in_channels // module.groups * kernel
            else:
                counted[name] = output[0].numel() * module.in_features

        return count

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network(images(shape, 1))
    for handle in handles:
        handle.remove()
    return counted


@pytest.mark.parametrize("name", ["vgg", "residual"])
def test_macs_against_an_independent_count(request, settled_vgg: nn.Module, name: str) -> None:
    layers = {layer.name: layer for layer in request.getfixturevalue(name).layers}
    counted = macs_by_hooks(*((settled_vgg, (3, 32, 32)) if name == "vgg" else (settled_residual(), (3, 16, 16))))
    total = 0
    for path, macs in counted.items():
        total += macs
        assert layers[path].macs == macs
        assert layers[path].macs_before == total
    assert sum(layer.macs for layer in layers.values()) == total == list(layers.values())[-1].macs_before


def test_shapes_and_bytes_are_those_that_run(graph: ExportedGraph) -> None:
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    del watched.graph.output[:]
    names = [layer.tensor for layer in graph.layers]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    shape = [d.dim_value for d in graph.model.graph.input[0].type.tensor_type.shape.dim[1:]]
    values = open_session(watched, "disabled").run(None, {"images": images(tuple(shape), 3).numpy()})
    for layer, value in zip(graph.layers, values, strict=True):
        assert layer.shape == value.shape[1:]
        assert layer.feature_bytes * 3 == value.nbytes


def test_layers_stand_in_execution_order(graph: ExportedGraph) -> None:
    made = producers(graph.model.graph)
    positions = [made[layer.tensor_before_activation or layer.tensor] for layer in graph.layers]
    assert positions == sorted(positions)
    assert len({layer.tensor for layer in graph.layers}) == len(graph.layers)
    names = [name for layer in graph.layers for name in (layer.name, *layer.aliases)]
    assert len(set(names)) == len(names)


def test_every_layer_of_a_chain_but_the_last_is_a_clean_cut(vgg: ExportedGraph) -> None:
    assert [layer.clean for layer in vgg.layers] == [True] * (len(vgg.layers) - 1) + [False]
    assert vgg.layers[-1].tensor == vgg.model.graph.output[0].name


def test_inside_a_residual_block_no_cut_is_clean(residual: ExportedGraph) -> None:
    clean = {layer.name: layer.clean for layer in residual.layers}
    for block in ("block1", "block2"):
        assert not clean[f"{block}.conv1"]
        assert not clean[f"{block}.conv2"]
        assert clean[f"{block}.Add"]
        assert clean[f"{block}.Relu_1"]
    assert clean["stem"]
    assert clean["/Reshape"]


def test_dominated_means_that_an_earlier_clean_cut_or_the_input_is_no_larger(graph: ExportedGraph) -> None:
    shape = [d.dim_value for d in graph.model.graph.input[0].type.tensor_type.shape.dim[1:]]
    earlier = [4 * int(np.prod(shape))]
    for layer in graph.layers:
        assert layer.dominated == (layer.clean and min(earlier) <= layer.feature_bytes)
        if layer.clean:
            earlier.append(layer.feature_bytes)
    assert any(layer.dominated for layer in graph.layers)
    assert any(layer.clean and not layer.dominated for layer in graph.layers)


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/features/features.5/Conv", "features.5"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/net/net.0/net.0.1/Relu", "net.0.1"),
        ("/blocks.0/conv/Conv", "blocks.0.conv"),
        ("/fc/Gemm", "fc"),
        ("/Relu_1", "/Relu_1"),
    ],
)
def test_paths_of_modules_out_of_node_names(node: str, path: str) -> None:
    assert layer_name(helper.make_node("Relu", ["x"], ["y"], name=node)) == path


def test_candidates_of_a_plain_graph_need_no_module_names() -> None:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["h"], name="first"), helper.make_node("Relu", ["h"], ["r"]),
         helper.make_node("Gemm", ["r", "v"], ["y"], name="second")],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w"),
         numpy_helper.from_array(np.ones((3, 2), np.float32), "v")],
    )  # fmt: skip
    layers = candidates(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    assert layers == (
        Layer("first", "Gemm", "r", "h", (3,), 12, 12, 12, True, False, ("r",)),
        Layer("second", "Gemm", "y", None, (2,), 8, 6, 18, False, False, ()),
    )
