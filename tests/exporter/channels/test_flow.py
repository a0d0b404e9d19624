"""What is said to be a constant is one: checked by running the module on that constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import images, seeded
from torch import nn
from torch.nn import functional

from exporter.channels.feature import Feature
from exporter.channels.flow import follow_channels
from exporter.masks.masks import Masks
from exporter.tracing.layer_ends import layer_end, layer_nodes
from exporter.tracing.trace import run_network, trace
from jetson.errors import CoopexportError

SHAPE = (4, 6, 6)


def drawn_norm(affine: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4, affine=affine)
    norm.running_mean.copy_(torch.randn(4))
    norm.running_var.copy_(torch.rand(4) + 0.1)
    if affine:
        norm.weight.data, norm.bias.data = torch.randn(4), torch.randn(4)
    return norm


class Call(nn.Module):
    """A function as a module, so that it is traced as the function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


STEPS = [
    lambda: drawn_norm(True),
    lambda: drawn_norm(False),
    *[lambda kind=kind: kind() for kind in (nn.ReLU, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Mish, nn.SELU, nn.GELU)],
    lambda: nn.PReLU(4),
    lambda: nn.Hardtanh(0.5, 2.0),
    lambda: nn.MaxPool2d(3, 2, padding=1),
    lambda: nn.AvgPool2d(2),
    lambda: nn.AvgPool2d(3, 1, padding=1),
    lambda: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    lambda: nn.AvgPool2d(2, divisor_override=3),
    lambda: nn.AvgPool2d(4, 3, ceil_mode=True),
    lambda: nn.AdaptiveAvgPool2d(4),
    lambda: nn.AdaptiveMaxPool2d(1),
    nn.Flatten,
    nn.Dropout,
    lambda: Call(lambda x: functional.avg_pool2d(x, 3, 1, 1)),
    lambda: Call(lambda x: functional.avg_pool2d(x, 2, padding=0, divisor_override=5)),
    lambda: Call(lambda x: functional.avg_pool2d(x, 2, None, 0, False, True, 5)),
    lambda: Call(lambda x: functional.leaky_relu(input=x, negative_slope=0.3)),
    lambda: Call(lambda x: functional.elu(x, 0.5)),
    lambda: Call(lambda x: x.sigmoid()),
    lambda: Call(lambda x: x.view(x.size(0), -1)),
    lambda: Call(lambda x: x.reshape(x.shape[0], 8, -1)),
]


class Behind(nn.Module):
    """A convolution that makes three given constants and one live channel, and what stands behind it."""

    def __init__(self, constants: list[float], behind: nn.Module) -> None:
        super().__init__()
        self.source = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.source.weight[:3] = 0
            self.source.bias[:3] = torch.tensor(constants[:3])
        self.behind = behind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.behind(self.source(x))


@pytest.mark.parametrize("make", STEPS)
@settings(max_examples=10)
@given(constants=st.lists(st.sampled_from([0.0, -2.5, 0.25, 3.0]), min_size=3, max_size=3))
def test_known_constants_are_what_the_module_makes_of_them(make, constants: list[float]) -> None:
    module = seeded(make, seed=3).eval()
    network = seeded(Behind, constants, module, seed=4).double().eval()
    inputs = images(SHAPE, count=2).double()
    flow = follow_channels(trace(network, inputs), Masks({}, "weight"))
    feature = [value for value in flow.features.values() if isinstance(value, Feature)][-1]
    with torch.no_grad():
        outputs = network(inputs).numpy()
    assert feature.shape[1:] == outputs.shape[1:]
    values = np.broadcast_to(feature.constants, outputs.shape)
    known = np.isfinite(values)
    assert np.abs(outputs - values)[known].max(initial=0) <= 1e-12
    assert not outputs[known & (values == 0)].any()  # an exact zero, not a small number
    varies = np.ptp(outputs, axis=0) > 1e-9
    assert not (known & varies).any()
    if not any(constants) and isinstance(module, (nn.ReLU, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten)):
        assert known.reshape(2, 4, -1)[:, :3].all()  # zeros survive


def test_a_layer_reaches_to_its_activation_through_dropout_and_over_a_pool() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Dropout(), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1), nn.MaxPool2d(1), nn.Identity(), nn.ReLU(), nn.Dropout(),
        nn.Conv2d(4, 4, 1), nn.AvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 2),
    ).eval()  # fmt: skip
    traced = trace(network, images(SHAPE, count=2))
    ends = {name: layer_end(traced, node).target for name, (node,) in layer_nodes(traced).items()}
    assert ends == {"0": "3", "6": "9", "11": "11", "15": "15"}


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("my own check")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Conv2d(3, 4, 3), ["(4, 6, 6)", "model.input_shape"]),
        (Fails(), ["my own check", "(4, 6, 6)"]),
        (Call(lambda x: [x, "label"]), ["str", "only tensors"]),
    ],
)
def test_what_a_network_does_not_take_or_give_is_refused(network: nn.Module, words: list[str]) -> None:
    with pytest.raises(CoopexportError) as caught:
        run_network(network, images(SHAPE))
    for word in words:
        assert word in str(caught.value)
