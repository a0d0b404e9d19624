"""One export: opset 13, any batch, names from the network, and a proof that it computes the same."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from small_networks import images, seeded, settle, settled_residual
from torch import nn
from torch.nn import functional

from exporter.layers.export import ExportedGraph, export
from exporter.layers.names import find_layer
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError, ParityError

SHAPE = (3, 12, 12)


@pytest.fixture(scope="module")
def vgg(settled_vgg: nn.Module, random_images: np.ndarray) -> ExportedGraph:
    return export(settled_vgg, torch.from_numpy(random_images))


def exported(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> ExportedGraph:
    return export(settle(network, shape), images(shape))


def test_parity_is_measured_and_recorded(vgg: ExportedGraph) -> None:
    assert vgg.parity.check == "export"
    assert 0 <= vgg.parity.error < vgg.parity.bound == 1e-4
    assert vgg.parity.samples == 24


def test_opset_is_13_and_constants_are_initialisers(vgg: ExportedGraph) -> None:
    assert [(item.domain, item.version) for item in vgg.model.opset_import] == [("", 13)]
    assert not {"Constant", "Identity"} & {node.op_type for node in vgg.model.graph.node}
    onnx.checker.check_model(vgg.model, full_check=True)


def test_batch_is_dynamic(settled_vgg: nn.Module, vgg: ExportedGraph, random_images: np.ndarray) -> None:
    (given,) = vgg.model.graph.input
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    session = open_session(vgg.model, "disabled")
    with torch.no_grad():
        expected = settled_vgg(torch.from_numpy(random_images)).numpy()
    for count in (1, 2, 7, 24):
        outputs = run(session, [random_images[:count]])[0]
        assert np.abs(outputs - expected[:count]).max() < 1e-4 * np.ptp(expected, axis=0).max()


def test_batch_norms_are_folded(vgg: ExportedGraph) -> None:
    operators = [node.op_type for node in vgg.model.graph.node]
    assert "BatchNormalization" not in operators
    assert (operators.count("Conv"), operators.count("Gemm")) == (13, 1)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("features.conv4_1", "features.conv4_1"),
        ("conv4_1", "features.conv4_1"),
        ("features.24", "features.conv4_1"),  # as in Sequential: 7 layers of 3 modules and 3 pools before it
        ("bn4_1", "features.conv4_1"),
        ("features.25", "features.conv4_1"),
        ("relu4_1", "features.conv4_1"),
        ("pool3", "features.pool3"),
        ("features", "features.pool5"),
        ("classifier", "classifier"),
        ("/Flatten", "/Flatten"),
        ("Flatten", "/Flatten"),
    ],
)
def test_names_of_the_network_lead_to_its_layers(vgg: ExportedGraph, wanted: str, name: str) -> None:
    assert find_layer(vgg.layers, wanted).name == name


def test_positions_agree_with_the_network(settled_vgg: nn.Module, vgg: ExportedGraph) -> None:
    for position, (name, _) in enumerate(settled_vgg.features.named_children()):
        assert find_layer(vgg.layers, f"features.{position}") == find_layer(vgg.layers, f"features.{name}")


def test_unknown_names_get_the_nearest(vgg: ExportedGraph) -> None:
    with pytest.raises(CoopexportError, match=r'no layer "conv4_11"; the nearest are conv4_1\b'):
        find_layer(vgg.layers, "conv4_11")


class Nested(nn.Module):
    """Modules in modules, a ModuleList, and functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU())
        self.stages = nn.ModuleList(
            [nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3)}), nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3)})]
        )
        self.fc = nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = functional.relu(stage["conv"](x))
        return self.fc(x.view(x.size(0), -1))


def test_nested_modules_keep_their_paths() -> None:
    layers = exported(seeded(Nested)).layers
    names = [layer.name for layer in layers]
    assert names == ["stem.0.0", "stages.0.conv", "stages.1.conv", "/Reshape", "fc"]
    assert find_layer(layers, "stem") == find_layer(layers, "stem.0") == find_layer(layers, "stem.0.1") == layers[0]
    assert find_layer(layers, "stem.1") == layers[0]
    assert find_layer(layers, "stages.1") == layers[2]
    with pytest.raises(CoopexportError, match=r'"conv" is ambiguous; use one of stages\.0\.conv, stages\.1\.conv'):
        find_layer(layers, "conv")


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.Sigmoid, nn.ELU]
)
def test_a_cut_lies_behind_the_activation(activation: type[nn.Module]) -> None:
    modules = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), activation(), nn.Flatten(), nn.Linear(400, 5)]
    network = settle(seeded(lambda: nn.Sequential(*modules)), SHAPE)
    graph = export(network, images(SHAPE))
    layer = find_layer(graph.layers, "0")
    assert layer.clean
    assert layer == find_layer(graph.layers, "2")
    assert layer.shape == (4, 10, 10)
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    del watched.graph.output[:]
    names = [layer.tensor, layer.tensor_before_activation]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    after, before = run(open_session(watched, "disabled"), [images(SHAPE).numpy()])
    with torch.no_grad():
        assert np.allclose(before, network[:2](images(SHAPE)).numpy(), atol=1e-5)
        assert np.allclose(after, network[:3](images(SHAPE)).numpy(), atol=1e-5)


def test_a_linear_with_a_batch_norm_that_stays_is_one_layer() -> None:
    modules = [nn.Flatten(), nn.Linear(432, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)]
    layers = exported(seeded(lambda: nn.Sequential(*modules))).layers
    layer = find_layer(layers, "1")
    assert layer == find_layer(layers, "2") == find_layer(layers, "3")
    assert layer.shape == (8,)
    assert layer.macs == 432 * 8


def test_a_residual_network_names_its_blocks() -> None:
    layers = export(settled_residual(), images((3, 16, 16))).layers
    assert find_layer(layers, "block1").name == "block1.Relu_1"
    assert find_layer(layers, "block1.Add").clean
    assert not find_layer(layers, "block1.conv1").clean


class TwoBranches(nn.Module):
    """A module that returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3)
        self.right = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.left(x), self.right(x)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = TwoBranches()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.both(x)
        return (left + right).mean((2, 3))


def test_a_module_that_more_than_one_tensor_leaves_is_no_layer() -> None:
    layers = exported(seeded(Joined)).layers
    assert find_layer(layers, "both.left").clean is False
    with pytest.raises(CoopexportError, match='"both"'):
        find_layer(layers, "both")


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = settle(seeded(Nested), SHAPE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, images(SHAPE))
    assert not any(module._forward_pre_hooks or module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class NotExportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(x[:, 0])


def test_what_onnx_does_not_know_is_one_line() -> None:
    with pytest.raises(CoopexportError, match="cannot be exported to ONNX") as caught:
        export(NotExportable().eval(), images(SHAPE))
    assert "\n" not in str(caught.value)


class Written(nn.Module):
    """A convolution and a linear with something written between them that the exporter does not take."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.fc, self.between = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.between(torch.relu(self.conv(x))))


def attend(x: torch.Tensor) -> torch.Tensor:
    x = x.flatten(2).transpose(1, 2)
    return functional.scaled_dot_product_attention(x, x, x).mean(1)


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (lambda x: functional.avg_pool2d(x, x.size()[2:]).flatten(1), ["a size", "number", f"{__file__}:"]),
        (lambda x: functional.adaptive_avg_pool2d(x, (None, 1)).mean((2, 3)), ["a size", "number", f"{__file__}:"]),
        (lambda x: functional.unfold(x, x.shape[2]).view(len(x), 4, -1).mean(2), ["0-d tensor", f"{__file__}:"]),
        (attend, ["scaled_dot_product_attention", "opset version 13"]),
        (lambda x: x.data.mean((2, 3)), ["input 0", "x.data", "x.detach()"]),
        (lambda x: (x.data + 1).mean((2, 3)), ["input 0", "x.data"]),
        (lambda x: torch.from_numpy(x.detach().numpy()).mean((2, 3)), ["input 0", "x.numpy()"]),
        (lambda x: torch.tensor(x.tolist()).mean((2, 3)), ["input 0", "x.tolist()"]),
        (lambda x: x.mean((2, 3)) * float(x.mean()), ["parity check 'export' failed"]),
        (lambda x: torch.relu_(x).mean((2, 3)) * 0, ["vary by only"]),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_nothing_is_printed(
    between: Callable[[torch.Tensor], torch.Tensor], words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """PyTorch prints its graph, on the process's own standard output, before it raises."""
    with pytest.raises(CoopexportError) as caught:
        export(seeded(Written, between).eval(), images(SHAPE))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert not re.search(r"%\w+|prim::|aten::_|\[ torch\.", message)
    assert (*capfd.readouterr(),) == ("", "")


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda y: y.data, ["does not depend on the inputs", "x.data"]),
        (lambda y: (y, y.data * 2), ["outputs have shape (1, 5), expected (16, 5)"]),
        (lambda y: y.sum(), ["output 0", "for the whole batch"]),
        (lambda y: (y, y.mean()), ["output 1", "for the whole batch"]),
        (lambda y: torch.fft.fft(y), ["complex64"]),
        (lambda y: y.to_sparse(), ["sparse_coo"]),
        (lambda y: y.bfloat16(), ["output 0", "bfloat16", "float32"]),
        (lambda y: {"scores": y, "count": 3}, ["int"]),
        (lambda y: None, ["NoneType"]),
    ],
)
def test_outputs_that_cannot_be_compared_are_named(returned: Callable[[torch.Tensor], object], words) -> None:
    class Returning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(432, 5)

        def forward(self, x: torch.Tensor) -> object:
            return returned(self.fc(x.flatten(1)))

    with pytest.raises(CoopexportError) as caught:
        export(seeded(Returning).eval(), images(SHAPE))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_input_that_is_not_used_is_named() -> None:
    class FirstOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(432, 5)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1))

    with pytest.raises(CoopexportError, match="does not depend on input 1 of the network"):
        export(seeded(FirstOnly).eval(), (images(SHAPE), images(SHAPE)))


def test_an_argument_with_a_default_is_named() -> None:
    """The exporter makes an input of it, which nobody would feed."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(432, 5)

        def forward(self, x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
            return self.fc(x.flatten(1)) * factor

    with pytest.raises(
        CoopexportError, match=r"another input, '.*', which is an argument of forward\(\) with a default"
    ):
        export(seeded(Scaled).eval(), images(SHAPE))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_script_is_refused() -> None:
    script = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).eval())
    with pytest.raises(CoopexportError, match=r"return the nn\.Module itself, not torch\.jit's"):
        export(script, images(SHAPE))


@pytest.mark.parametrize(
    "inputs", [images(SHAPE)[:0], torch.tensor(1.0), images(SHAPE).numpy(), (), (images(SHAPE), None)]
)
def test_example_inputs_that_are_no_samples_are_refused(inputs: object) -> None:
    with pytest.raises(CoopexportError, match="not tensors of samples"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).eval(), inputs)


def test_outputs_of_true_and_false_are_compared() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(432, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1)) > 0

    assert export(seeded(Decides).eval(), images(SHAPE)).parity.error == 0


class BakesTheBatchIn(nn.Module):
    """Correct for the batch it was traced with, and for no other."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(432, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)) * float(len(x))


def test_a_graph_that_computes_something_else_is_refused() -> None:
    with pytest.raises(CoopexportError, match=r"export: parity check 'export' failed: error \d"):
        exported(seeded(BakesTheBatchIn))


class MakesNothing(nn.Module):
    """The second output has no values, whatever comes in."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x[:, 4:]


def test_an_output_without_values_proves_nothing() -> None:
    with pytest.raises(ParityError, match=r"parity check 'export': outputs: empty \(4x0\), so that equality"):
        export(MakesNothing().eval(), torch.rand(4, 4))


def test_training_mode_is_refused_even_of_one_module() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].train()
    with pytest.raises(CoopexportError, match="training mode"):
        export(network, images(SHAPE))


def test_inputs_of_another_shape_are_refused(settled_vgg: nn.Module) -> None:
    with pytest.raises(CoopexportError, match=r"\(1, 32, 32\).*model\.input_shape"):
        export(settled_vgg, images((1, 32, 32)))
